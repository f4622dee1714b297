"""How well a finetuned model takes on the voice of a person in an export of a chat, as a classifier hears it.

The export is made: Ben asks 250 questions, Ann answers each in her way. A run is tuned on it with adapters. A
classifier that has read Ann's messages and answers of the run before tuning then hears, for questions that nobody has
asked yet, an answer before and an answer after tuning, and says which one is Ann's.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from benchmarks.common import Report, Table, say
from benchmarks.process import run as run_command

ASKED, HEARD, TOKENS = 250, 60, 40
ASKS = ("Do you like {}?", "What do you think of {}?", "Shall we talk about {}?", "Tell me about {}.", "Why {}?")
THINGS = (
    "tea", "rain", "the new job", "running", "Monday", "that film", "my cooking", "the sea", "cats", "old songs",
    "the train", "winter", "your brother", "football", "cheap wine", "the garden", "long letters", "maps", "the news",
    "chess", "bread", "the dentist", "mountains", "poetry", "the office", "birthdays", "ghosts", "bicycles", "soup",
    "the moon", "museums", "queues", "onions", "the radio", "camping", "jazz", "hats", "bridges", "spiders", "snow",
)  # fmt: skip
BEGINS = ("haha", "ooh", "hmm", "tbh", "oh mate", "nah", "yesss", "well")
MIDDLES = (
    "{} is the best thing ever", "i could do without {}", "{} again, you never stop", "{} makes me all soft inside",
    "cant talk about {} before coffee", "my gran swore by {}", "dont get me started on {}", "{} is alright i suppose",
)  # fmt: skip
ENDS = ("innit", "lol", "x", "you know me", "bless", "anyway gotta run", "honestly", "no regrets")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help="what `quoth import smollm2` made")
    parser.add_argument("--lora", type=int, default=8, metavar="RANK")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("tune_flags", nargs="*", metavar="FLAG", help="more flags of `quoth tune sft`, after --")


def chat(seed: int = 0) -> tuple[list[tuple[str, str]], list[str]]:
    """Questions with Ann's answers, and other questions, about things that she was not asked about."""
    rng = Random(seed)
    things = rng.sample(THINGS, len(THINGS))
    known, new = things[:-12], things[-12:]
    pairs = []
    for _ in range(ASKED):
        thing = rng.choice(known)
        said = f"{rng.choice(BEGINS)} {rng.choice(MIDDLES).format(thing)} {rng.choice(ENDS)}"
        pairs.append((rng.choice(ASKS).format(thing), said))
    return pairs, [ask.format(thing) for thing in new for ask in ASKS][:HEARD]


def export(pairs: Sequence[tuple[str, str]]) -> str:
    """The chat as WhatsApp writes it."""
    lines = []
    for number, (asked, said) in enumerate(pairs):
        day, minute = 1 + number // 10, number % 10 * 5
        stamp = f"{1 + day // 28:02}/{1 + day % 28:02}/24, 10:{minute:02}"
        lines += [f"{stamp} - Ben: {asked}", f"{stamp} - Ann: {said}"]
    return "\n".join(lines) + "\n"


class Classifier:
    """Naive Bayes over words and groups of three characters, with one more of each than was counted."""

    def __init__(self, texts: Sequence[str], others: Sequence[str]) -> None:
        self.counts = [Counter(part for text in kind for part in parts(text)) for kind in (texts, others)]
        self.totals = [sum(count.values()) + len(self.counts[0] | self.counts[1]) for count in self.counts]

    def score(self, text: str) -> float:
        """The log odds of the first kind, per part, so that long texts are not surer."""
        found = parts(text)
        odds = (math.log(self._share(0, part) / self._share(1, part)) for part in found)
        return sum(odds) / max(1, len(found))

    def _share(self, kind: int, part: str) -> float:
        return (self.counts[kind][part] + 1) / self.totals[kind]


def parts(text: str) -> list[str]:
    """The words and marks of a text, and each three characters that follow each other."""
    return [*re.findall(r"\w+|[^\w\s]", text), *(text[n : n + 3] for n in range(len(text) - 2))]


def answers(run: Path, asked: Sequence[str], seed: int) -> list[str]:
    """A run's answers at temperature 1."""
    from quoth.generate.engine import Engine
    from quoth.recipes.win_rate import open_answering
    from quoth.system.device import choose
    from quoth.tune.answers import write_answers

    _, base = open_answering(str(run), "best", choose(), say)
    engine = Engine(base.model, base.tokenizer, slots=32)
    prompts = [base.prompt_ids([{"role": "user", "content": one}]) for one in asked]
    made = write_answers(engine, prompts, tokens=TOKENS, ends=base.tokenizer.ends, seed=seed)
    return [one.text for one in made]


def run(options: argparse.Namespace) -> Report:
    pairs, new = chat()
    with TemporaryDirectory() as folder:
        data, tuned = Path(folder) / "chat.txt", Path(folder) / "ann"
        data.write_text(export(pairs), encoding="utf-8")
        command = [sys.executable, "-m", "quoth", "tune", "sft", str(options.run), str(data), "--me", "Ann"]
        flags = ["--lora", str(options.lora), "--epochs", str(options.epochs), *options.tune_flags]
        say("tuning")
        done = run_command([*command, *flags, "--out", str(tuned), "--json"])
        say("answering")
        before, after = (answers(one, new, seed=1) for one in (options.run, tuned))
        others = answers(options.run, [asked for asked, _ in pairs[::4]], seed=2)
    hers = [said for _, said in pairs]
    classifier = Classifier(hers, others)
    won = [classifier.score(a) > classifier.score(b) for a, b in zip(after, before, strict=True)]
    real = Classifier(hers[::2], others[::2])
    odds = zip(hers[1::2], others[1::2], strict=False)
    ceiling = [real.score(a) > real.score(b) for a, b in odds]
    values = {
        "seconds": done.seconds,
        "peak_mb": done.peak_mb,
        "recognised": sum(won) / len(won),
        "ceiling": sum(ceiling) / len(ceiling),
        "copied": sum(one in hers for one in after) / len(after),
        "answers": list(zip(new, before, after, strict=True)),
    }
    table = Table("", ["", ""], [])
    table.rows += [
        ["tuning, seconds", f"{done.seconds:.0f}"],
        ["tuning, most memory", f"{done.peak_mb / 1000:.1f} GB"],
        ["its answer is taken for Ann's, of one before and one after", f"{values['recognised']:.0%}"],
        ["Ann's own unread message is, of one of hers and one from before", f"{values['ceiling']:.0%}"],
        ["answers that stand in the export, word for word", f"{values['copied']:.0%}"],
    ]
    notes = [f"{asked} → {said}" for asked, _, said in values["answers"][:5]]
    return Report([table], values, notes)
