"""Decide which checkpoints a run keeps, and find the ones that can be read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import torch

from quoth.system.errors import InputError
from quoth.system.files import as_json, read_json, sha256_of, write_atomic
from quoth.train.checkpoint import Checkpoint, Snapshot, has_optimizer, read, write
from quoth.train.manifest import MANIFEST, problems, verify

CHECKPOINTS = "checkpoints"
SNAPSHOTS = "snapshots"
KEPT = "kept.json"


class Keeper:
    """Writes a run's checkpoints in the background, and keeps the newest ones, the best, and every `every`-th step's.

    A checkpoint is removed only after a newer one was written, read back and found intact. `checkpoints/kept.json`
    says which one is the best.

    Args:
        last: how many of the newest checkpoints are kept.
        every: checkpoints whose step is a multiple of this number are never removed; 0 for no such rule.
        name: the folder in the run's that holds them.
    """

    def __init__(self, run: Path, last: int = 2, every: int = 0, name: str = CHECKPOINTS) -> None:
        self.folder, self.last, self.every = run / name, max(1, last), every
        self.best = _best(run)
        self._writing: Thread | None = None
        self._failed: Exception | None = None

    def clear(self) -> None:
        """Remove half-written checkpoints that a killed process left."""
        for left in self.folder.glob(".step-*"):
            shutil.rmtree(left, ignore_errors=True)

    def save(self, content: Snapshot, step: int) -> None:
        """Begin to write a checkpoint, after the previous one is done.

        Raises:
            InputError: the previous checkpoint could not be written.
        """
        try:
            self.finish()
        finally:
            self._writing = Thread(target=self._write, args=(content.copy(), self.path(step)), name="checkpoint")
            self._writing.start()

    def finish(self) -> None:
        """Wait until the checkpoint that was begun is on the disk and intact.

        Raises:
            InputError: the checkpoint could not be written.
        """
        if self._writing:
            self._writing.join()
            self._writing = None
        if failed := self._failed:
            self._failed = None
            raise failed

    def mark_best(self, step: int) -> None:
        """Record that a saved step is the best so far.

        Raises:
            InputError: the step's checkpoint or the record could not be written.
        """
        self.finish()
        best = self.path(step)
        write_atomic(self.folder / KEPT, as_json({"best": best.name, "sha256": sha256_of(best / MANIFEST)}))
        self.best = best.name

    def drop(self, step: int) -> None:
        """Remove a checkpoint that has turned out to be bad."""
        self.finish()
        self._remove(self.path(step))

    def path(self, step: int) -> Path:
        """The folder of a step's checkpoint."""
        return self.folder / f"step-{step:06d}"

    def _remove(self, folder: Path) -> None:
        """Remove a folder. It is renamed first, so that nothing half removed is taken for a checkpoint."""
        aside = folder.with_name(f".{folder.name}.old")
        with suppress(OSError):
            folder.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)

    def _write(self, content: Snapshot, folder: Path) -> None:
        try:
            write(folder, content)
            self.prune(step_of(folder))
        except Exception as error:  # The training thread raises it, in `finish`.
            self._failed = error

    def prune(self, step: int) -> None:
        """Remove checkpoints up to a step that are neither among the last, nor the best, nor kept for good.

        Checkpoints of later steps stay: they were found broken, or else the run would have continued from them.
        """
        until = [folder for folder in reversed(_saved(self.folder)) if step_of(folder) <= step]
        for old in until[: -self.last]:
            if old.name != self.best and not (self.every and step_of(old) % self.every == 0):
                self._remove(old)


def checkpoints(run: Path) -> list[Path]:
    """A run's checkpoints, the newest first."""
    return _saved(run / CHECKPOINTS)


def snapshots(run: Path) -> list[Path]:
    """A run's snapshots, which hold weights alone, the newest first."""
    return _saved(run / SNAPSHOTS)


def moments(run: Path) -> dict[int, Path]:
    """The checkpoints that show how a run's model learned, by step: its snapshots, and those it can go on from."""
    return {step_of(folder): folder for folder in sorted([*snapshots(run), *checkpoints(run)], key=step_of)}


def _saved(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), key=step_of, reverse=True)


def kept(run: Path, which: str = "best") -> Path:
    """The folder of a run's best or last checkpoint.

    Raises:
        InputError: the run has none.
    """
    return next(_candidates(run, which))


def load_kept(run: Path, which: str, device: torch.device | str, say: Callable[[str], None]) -> Checkpoint:
    """The best or last checkpoint that is intact; `say` is called with a sentence for each broken one before it.

    Raises:
        InputError: the run has no intact checkpoint.
    """
    return read(intact(run, which, say), device)


def intact(run: Path, which: str, say: Callable[[str], None], *, resumable: bool = False) -> Path:
    """The folder of the best or last intact checkpoint; `say` is called with a sentence for each broken one before it.

    With `resumable`, a checkpoint without the optimizer's state counts as broken, unless every one lacks it.

    Raises:
        InputError: the run has no intact checkpoint.
    """
    if which == "best" and (unknown := kept_problem(run)):
        say(unknown)
    broken: list[InputError] = []
    resumable = resumable and any(map(has_optimizer, checkpoints(run)))
    for folder in _candidates(run, which):
        try:
            verify(folder)
            if resumable and not has_optimizer(folder):
                raise InputError(f"{folder} holds no optimizer, so a run cannot go on from it.")
        except InputError as error:
            broken.append(error)
            continue
        for problem in broken:
            say(f"{problem} {folder.name} is used instead.")
        return folder
    raise InputError(f"No checkpoint of {run} is intact. {broken[0]}")


def last_good(run: Path) -> Path | None:
    """The newest checkpoint that is intact and was not saved while steps were left out; None if there is none."""
    for folder in checkpoints(run):
        if not any(problems(folder)) and not read_json(folder / "state.json").get("bad"):
            return folder
    return None


def _candidates(run: Path, which: str) -> Iterator[Path]:
    """The checkpoints to try: the wanted one first, and then the others, the newest first."""
    found = checkpoints(run)
    if not found:
        raise InputError(f"The run {run} has no checkpoint yet.")
    best = run / CHECKPOINTS / (_best(run) or "")
    if which == "best" and best in found:
        yield best
        found.remove(best)
    yield from found


def _best(run: Path) -> str | None:
    """The name of the best checkpoint; None if it is not known, for which `kept_problem` gives the reason."""
    folder = run / CHECKPOINTS
    try:
        known = read_json(folder / KEPT)
        name = str(known["best"])
        return name if known["sha256"] == sha256_of(folder / name / MANIFEST) else None
    except (InputError, KeyError, TypeError):  # It is missing at first; a later evaluation replaces a damaged file.
        return None


def kept_problem(run: Path) -> str:
    """A sentence on what is wrong with the file that names the best checkpoint; "" if nothing is wrong."""
    path = run / CHECKPOINTS / KEPT
    if not path.exists() or _best(run) is not None:
        return ""
    return f"{path} is damaged, or the best checkpoint was changed since it was saved, so the newest is taken for it."


def step_of(folder: Path) -> int:
    """The step after which a checkpoint was saved, from its folder's name; -1 if that names none."""
    number = folder.name.removeprefix("step-")
    return int(number) if number.isdecimal() else -1
