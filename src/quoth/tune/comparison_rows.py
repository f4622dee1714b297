"""Decisions as rows of JSON Lines in two files: pairs that a model can learn from, in TRL's format, and the rest."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from quoth.system.errors import InputError
from quoth.system.files import writing
from quoth.system.lock import UNSUPPORTED, lock_file
from quoth.tune.comparison import CHOICES, Comparison, Decision
from quoth.tune.conversation import Messages

NOT_OURS = "this line was not written by `quoth tune compare`"
# How each line begins, as far as a crash left it.
BEGINNING = b'{"prompt": '


@dataclass(frozen=True)
class About:
    """What all rows of a file have in common.

    Attributes:
        run: the name of the run that is compared.
        against: the name of the run that it is compared with; "" if both answers are the run's own.
        seed: the seed of answers and sides.
        plain: whether prompts and answers are written as texts, as for a run without a chat template.
    """

    run: str
    against: str
    seed: int
    plain: bool


def row_of(decision: Decision, about: About) -> dict[str, Any]:
    """A decision as a row: with `chosen` and `rejected` if it teaches, else with both answers as they stood.

    >>> shown = Comparison(0, 0, ({"role": "user", "content": "Hi"},), ("A", "B"), (True, True), "right")
    >>> row_of(Decision(shown, "left", 2.5), About("tuned", "", 1, plain=True))["chosen"]
    'B'
    """
    shown = decision.comparison
    texts = [_answer(text, about.plain) for text in shown.answers]
    if decision.teaches and (preferred := decision.preferred) is not None:
        answers = {"chosen": texts[preferred], "rejected": texts[1 - preferred]}
    else:
        answers = {"left": texts[shown.order[0]], "right": texts[shown.order[1]]}
    plain = about.plain and len(shown.prompt) == 1
    return {
        "prompt": shown.prompt[0]["content"] if plain else list(shown.prompt),
        **answers,
        "choice": decision.choice,
        "first_on": shown.first_on,
        "ended": list(shown.ended),
        "number": shown.number,
        "pair": shown.pair,
        "repeat": shown.repeat,
        "seconds": round(decision.seconds, 3),
        "run": about.run,
        "against": about.against,
        "seed": about.seed,
    }


def decision_of(row: Any, about: About) -> Decision:
    """The decision in a row that `row_of` made.

    Raises:
        InputError: the row is none, or was made of other runs; the message ends without naming the place.
    """
    try:
        runs = row["run"], row["against"]
        side, choice = row["first_on"], row["choice"]
        order = (0, 1) if side == "left" else (1, 0)
        if "chosen" in row:
            stood = [row["chosen"], row["rejected"]][:: 1 if choice == "left" else -1]
        else:
            stood = [row["left"], row["right"]]
        texts = [_content(stood[place]) for place in order]
        shown = Comparison(
            int(row["number"]),
            int(row["pair"]),
            _messages(row["prompt"]),
            (texts[0], texts[1]),
            (bool(row["ended"][0]), bool(row["ended"][1])),
            side,
            bool(row["repeat"]),
        )
        made = Decision(shown, choice, float(row["seconds"]))
        if choice not in CHOICES or side not in ("left", "right"):
            raise ValueError
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(NOT_OURS) from error
    if runs != (about.run, about.against):
        others = " and ".join(filter(None, runs))
        raise InputError(f"this line compares answers of {others}")
    return made


def _answer(text: str, plain: bool) -> Any:
    return text if plain else [{"role": "assistant", "content": text}]


def _content(answer: Any) -> str:
    return str(answer if isinstance(answer, str) else answer[0]["content"])


def _messages(prompt: Any) -> Messages:
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return tuple({"role": str(one["role"]), "content": str(one["content"])} for one in messages)


class Record:
    """The decisions in a file of pairs, which a model can learn from, and in a second file, of all the others.

    Each decision is on the disk before `add` returns. The files are held while they are open, so that no second
    process writes to them.

    >>> record = Record(Path("pairs.jsonl"), About("tuned", "", 1, plain=False))     # doctest: +SKIP
    >>> record.add(decision)                                                         # doctest: +SKIP

    Attributes:
        decisions: all of them, in the order in which they were made.
    """

    def __init__(self, path: Path, about: About) -> None:
        """Open the files, and read what they hold.

        Raises:
            InputError: a file cannot be read or written, another process holds it, or it holds something else.
        """
        self.path, self.rest, self.about = path, path.with_name(f"{path.stem}.rest{path.suffix}"), about
        self._files: list[_Lines] = []
        try:
            self._files += [_Lines(path), _Lines(self.rest)]
            read = [one for file in self._files for one in file.read(about)]
        except BaseException:
            self.close()
            raise
        self.decisions = sorted(read, key=lambda one: one.comparison.number)

    def add(self, decision: Decision) -> None:
        """Write a decision down.

        Raises:
            InputError: the disk is full, or the file may not be written; then nothing has changed.
        """
        self._file(decision).append(row_of(decision, self.about))
        self.decisions.append(decision)

    def take_back(self) -> Decision:
        """Remove the last decision, and return it.

        Raises:
            InputError: there is none, or the file may not be written.
        """
        if not self.decisions:
            raise InputError("There is no decision to take back.")
        self._file(self.decisions[-1]).drop_last(self.decisions[-1].comparison.number)
        return self.decisions.pop()

    def close(self) -> None:
        """Let go of the files; those in which nothing stands are removed."""
        for file in self._files:
            file.close()

    def _file(self, decision: Decision) -> _Lines:
        return self._files[0 if decision.teaches else 1]


class _Lines:
    """A file of JSON Lines that grows at its end, and shrinks there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("a+b", buffering=0)
        try:
            lock_file(self._file)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                self._file.close()
                said = f"{path} is in use: another `quoth tune compare` writes to it; end that one, or give another"
                raise InputError(f"{said} --out.") from error

    def read(self, about: About) -> list[Decision]:
        """The decisions in the file; the beginning of a line that a crash cut off is removed.

        Raises:
            InputError: a line is no decision on these runs.
        """
        with writing(self.path):
            self._file.seek(0)
            *lines, torn = self._file.read().split(b"\n")
        made = [self._decision(line, about, number) for number, line in enumerate(lines, 1)]
        if torn and _json(torn) is not None:  # Nothing but the line break is missing.
            made.append(self._decision(torn, about, len(lines) + 1))
            self._write(b"\n")
        elif torn[: len(BEGINNING)] != BEGINNING[: len(torn)]:
            raise self._foreign(len(lines) + 1, NOT_OURS)
        elif torn:
            self._cut(sum(len(line) + 1 for line in lines))
        return made

    def _decision(self, line: bytes, about: About, number: int) -> Decision:
        try:
            return decision_of(_json(line), about)
        except InputError as error:
            raise self._foreign(number, str(error)) from error

    def _foreign(self, number: int, why: str) -> InputError:
        return InputError(f"{self.path}, line {number}: {why}; give another --out.")

    def append(self, row: dict[str, Any]) -> None:
        self._write((json.dumps(row, ensure_ascii=False) + "\n").encode())

    def _write(self, data: bytes) -> None:
        with writing(self.path):
            before = self._file.seek(0, os.SEEK_END)
            try:
                if self._file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(self._file.fileno())
            except OSError:
                self._file.truncate(before)
                raise

    def drop_last(self, number: int) -> None:
        with writing(self.path):
            self._file.seek(0)
            content = self._file.read()
        begins = content.rfind(b"\n", 0, -1) + 1
        last = _json(content[begins:])
        if not isinstance(last, dict) or last.get("number") != number:
            raise InputError(f"{self.path} was changed meanwhile, so the last decision cannot be taken back.")
        self._cut(begins)

    def _cut(self, size: int) -> None:
        with writing(self.path):
            self._file.truncate(size)
            os.fsync(self._file.fileno())

    def close(self) -> None:
        empty = not self._file.closed and self._file.seek(0, os.SEEK_END) == 0
        if empty:
            self.path.unlink(missing_ok=True)
        self._file.close()


def _json(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
