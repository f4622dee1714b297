"""The climb: the rungs of the lecture, each trained and judged for several seeds."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from quoth.ladder import attention, bigram, embedding, heads, norm, residual, think
from quoth.ladder.judge import sampled_loss, written
from quoth.ladder.rung import Rung
from quoth.model.gpt import GPT
from quoth.recipes.start import start
from quoth.studio.ladder import write_ladder_report
from quoth.system.errors import InputError, suggestion
from quoth.system.files import write_atomic
from quoth.text.corpus import Corpus
from quoth.train.checkpoint import kept, load
from quoth.train.evaluate import evaluate

SMALL: dict[str, Rung] = {m.RUNG.name: m.RUNG for m in (bigram, embedding, attention, heads, think, residual, norm)}
SCALED = "scaled"
NAMES = (*SMALL, SCALED)
SCALED_CHANGED = "Scaled up: deeper, wider, a longer context, Muon, and as many steps as the minutes hold."
SCALED_LECTURE_LOSS = 1.48
SAMPLE = 300
TELL_EVERY = 100


@dataclass(frozen=True)
class Attempt:
    """One rung with one seed: how far it is, and at its end what it reached."""

    rung: str
    seed: int
    progress: float
    loss: float
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Outcome:
    """What one seed reached. Losses are exact; `sampled` ones are the lecture's estimate of them."""

    parameters: int
    steps: int
    seconds: float
    initial_loss: float
    train_loss: float
    validation_loss: float
    sampled_train_loss: float | None
    sampled_validation_loss: float | None
    sample: str


@dataclass(frozen=True)
class Ladder:
    """What is to be climbed. `steps` of 0 are each rung's own; `minutes` are those of the scaled rung."""

    corpus: Corpus
    data: str
    folder: Path
    rungs: Sequence[str] = NAMES
    seeds: Sequence[int] = (1337, 1338, 1339)
    faithful: bool = False
    steps: int = 0
    minutes: float = 0.0

    def climb(self) -> Iterator[Attempt]:
        """Train every rung with every seed, from the first to the last."""
        for name in self.rungs:
            for seed in self.seeds:
                yield from self._small(SMALL[name], seed) if name in SMALL else self._scaled(seed)

    def _small(self, rung: Rung, seed: int) -> Iterator[Attempt]:
        torch.set_num_threads(1)  # The work of a step is too little to be shared.
        begin = time.monotonic()
        model = rung.model(self.corpus.tokenizer.vocabulary, seed, faithful=self.faithful)
        initial = self._loss(model, "validation")
        for step in rung.train(model, self.corpus, seed, self.steps):
            if step.number % TELL_EVERY == 0:
                yield Attempt(rung.name, seed, step.progress, step.loss)
        seconds = time.monotonic() - begin
        yield self._judged(rung.name, seed, model.eval(), step.number, seconds, initial)

    def _scaled(self, seed: int) -> Iterator[Attempt]:
        begin = time.monotonic()
        flags: dict[str, Any] = {"data": self.data, "seed": seed, "sample_tokens": 0}
        if self.minutes:
            flags["minutes"] = self.minutes
        session = start(SCALED, None, flags, str(self.folder / f"{SCALED}-{seed}"), None, begin)
        for event in session.events():
            if event.kind == "step" and event.step % TELL_EVERY == 0:
                yield Attempt(SCALED, seed, event.progress, event.loss)
        seconds = time.monotonic() - begin
        model = load(kept(session.folder)).model
        yield self._judged(SCALED, seed, model, session.step, seconds, session.first_loss)

    def _judged(self, name: str, seed: int, model: GPT, steps: int, seconds: float, initial: float) -> Attempt:
        filmed = self.faithful and name in SMALL
        sampled = [
            sampled_loss(model, getattr(self.corpus, split), model.config.context, seed) if filmed else None
            for split in ("train", "validation")
        ]
        train, validation = self._loss(model, "train"), self._loss(model, "validation")
        text = written(model, self.corpus.tokenizer, SAMPLE, seed, cached=name == SCALED)
        count = model.parameters_count
        outcome = Outcome(count, steps, seconds, initial, train, validation, sampled[0], sampled[1], text)
        return Attempt(name, seed, 1.0, train, outcome)

    def _loss(self, model: GPT, split: str) -> float:
        """Over the whole validation split, or as much of the training split."""
        tokens = getattr(self.corpus, split)[: len(self.corpus.validation)]
        c = model.config
        return evaluate(
            model, np.asarray(tokens), self.corpus.tokenizer, context=c.context, batch=8192 // c.context
        ).loss


def record(ladder: Ladder, outcomes: dict[tuple[str, int], Outcome]) -> dict[str, Any]:
    """What was reached, as `ladder.json` holds it: the means and every seed of each rung that all have climbed."""
    rungs = []
    for name in ladder.rungs:
        reached = {seed: outcomes[name, seed] for seed in ladder.seeds if (name, seed) in outcomes}
        if len(reached) < len(ladder.seeds):
            continue
        every = list(reached.values())
        losses = [o.validation_loss for o in every]
        rung = SMALL.get(name)
        rungs.append(
            {
                "name": name,
                "changed": rung.changed if rung else SCALED_CHANGED,
                "parameters": every[0].parameters,
                **{key: _mean(getattr(o, key) for o in every) for key in MEANS},
                "spread": max(losses) - min(losses),
                "lecture_loss": rung.lecture_loss if rung else SCALED_LECTURE_LOSS,
                "sample": every[0].sample,
                "seeds": [{"seed": seed, **asdict(o)} for seed, o in reached.items()],
            }
        )
    return {"data": ladder.corpus.name, "faithful": ladder.faithful, "seeds": list(ladder.seeds), "rungs": rungs}


MEANS = (
    "steps", "seconds", "initial_loss", "train_loss", "validation_loss", "sampled_train_loss", "sampled_validation_loss"
)  # fmt: skip


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return fmean(known) if known else None


def save(folder: Path, climbed: dict[str, Any]) -> Path:
    """Write ladder.json, and the report; return the report's path."""
    write_atomic(folder / "ladder.json", json.dumps(climbed, indent=2) + "\n")
    return write_ladder_report(folder, climbed)


def rungs_named(name: str | None) -> Sequence[str]:
    """All rungs, or the one.

    Raises:
        InputError: there is no such rung.
    """
    if name is None:
        return NAMES
    if name not in NAMES:
        raise InputError(f"There is no rung {name!r}{suggestion(name, NAMES)}.")
    return (name,)
