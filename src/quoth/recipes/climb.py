"""The climb: the rungs of the lecture, each trained and judged for several seeds."""

from __future__ import annotations

import json
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from quoth.ladder import attention, bigram, embedding, heads, norm, residual, think
from quoth.ladder.judge import sampled_loss, written
from quoth.ladder.rung import SMALL, Rung
from quoth.model.gpt import GPT
from quoth.recipes.start import start
from quoth.studio.ladder_report import write_ladder_report
from quoth.system.device import cores
from quoth.system.errors import InputError, suggestion
from quoth.system.files import write_atomic
from quoth.text.corpus import Corpus, corpus
from quoth.train.checkpoint import load
from quoth.train.evaluate import evaluate
from quoth.train.keeper import kept

RUNGS: dict[str, Rung] = {m.RUNG.name: m.RUNG for m in (bigram, embedding, attention, heads, think, residual, norm)}
SCALED = "scaled"
NAMES = (*RUNGS, SCALED)
SCALED_CHANGED = (
    "Scaled up: `quoth train` itself, wider, with a longer context, and with what came after the lecture: rotary "
    "positions, RMSNorm, SwiGLU, QK-norm and Muon."
)
SCALED_LECTURE_LOSS = 1.48
SAMPLE = 300


@dataclass(frozen=True)
class Outcome:
    """What one seed of a rung reached. Losses are exact; `sampled` ones are the lecture's estimate of them.

    `corrected_loss` is the validation loss of the corrected rung with the same seed, where the other losses are those
    of the rung that the lecture's film shows.
    """

    parameters: int
    steps: int
    seconds: float
    initial_loss: float
    train_loss: float
    validation_loss: float
    sample: str
    sampled_train_loss: float | None = None
    sampled_validation_loss: float | None = None
    corrected_loss: float | None = None


@dataclass(frozen=True)
class Ladder:
    """What is to be climbed. `steps` of 0 are each rung's own; `minutes` are those of the scaled rung."""

    data: str
    folder: Path
    rungs: Sequence[str] = NAMES
    seeds: Sequence[int] = (1337, 1338, 1339)
    faithful: bool = False
    steps: int = 0
    minutes: float = 3.0

    def climb(self) -> Iterator[tuple[str, int, Outcome]]:
        """Train every rung with every seed, the small ones a process a core, and tell of each when it is done."""
        tasks = [(name, seed) for name in self.rungs if name in RUNGS for seed in self.seeds]
        workers = min(len(tasks), cores())
        # Starting a process takes longer than a few steps do.
        if workers > 1 and not 0 < self.steps < 500:
            with get_context("spawn").Pool(workers, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
                yield from (
                    (*task, outcome) for task, outcome in zip(tasks, pool.imap(self._small, tasks), strict=True)
                )
        else:
            yield from ((*task, self._small(task)) for task in tasks)
        if SCALED in self.rungs:
            for seed in self.seeds:
                yield SCALED, seed, self._scaled(seed)

    def _small(self, task: tuple[str, int]) -> Outcome:
        name, seed = task
        torch.set_num_threads(1)  # The work of a step is too little to be shared.
        text, filmed = corpus(self.data), dict[str, float]()
        if self.faithful:
            filmed["corrected_loss"] = _loss(self._trained(name, seed, text, faithful=False)[0], text, "validation")
        begin = time.monotonic()
        model, initial, steps = self._trained(name, seed, text, faithful=self.faithful)
        seconds = time.monotonic() - begin
        if self.faithful:
            for split in ("train", "validation"):
                filmed[f"sampled_{split}_loss"] = sampled_loss(model, getattr(text, split), model.config.context, seed)
        return _judged(model, text, seed, steps=steps, seconds=seconds, initial_loss=initial, **filmed)

    def _trained(self, name: str, seed: int, text: Corpus, *, faithful: bool) -> tuple[GPT, float, int]:
        rung = RUNGS[name]
        model = rung.model(text.tokenizer.vocabulary, seed, faithful=faithful)
        initial = _loss(model, text, "validation")
        steps = sum(1 for _ in rung.train(model, text, seed, self.steps))
        return model.eval(), initial, steps

    def _scaled(self, seed: int) -> Outcome:
        begin = time.monotonic()
        flags: dict[str, Any] = {"data": self.data, "seed": seed, "sample_tokens": 0, "minutes": self.minutes}
        session = start("laptop", None, flags, str(self.folder / f"{SCALED}-{seed}"), None, begin)
        deque(session.events(), maxlen=0)
        seconds, model = time.monotonic() - begin, load(kept(session.folder)).model
        known = {"steps": session.state.step, "seconds": seconds, "initial_loss": session.state.first_loss}
        return _judged(model, corpus(self.data), seed, **known)


def _judged(model: GPT, text: Corpus, seed: int, **known: Any) -> Outcome:
    """What a model has reached, with what is known of how."""
    return Outcome(
        parameters=model.parameters_count,
        train_loss=_loss(model, text, "train"),
        validation_loss=_loss(model, text, "validation"),
        sample=written(model, text.tokenizer, SAMPLE, seed, cached=model.config.context > SMALL["context"]),
        **known,
    )


def _loss(model: GPT, text: Corpus, split: str) -> float:
    """Over the whole validation split, or as much of the training split."""
    tokens = np.asarray(getattr(text, split)[: len(text.validation)])
    T = model.config.context
    return evaluate(model, tokens, text.tokenizer, context=T, batch=8192 // T).loss


def record(ladder: Ladder, name_of_text: str, outcomes: dict[tuple[str, int], Outcome]) -> dict[str, Any]:
    """What was reached, as `ladder.json` holds it: the means and every seed of each rung that all have climbed."""
    rungs = []
    for name in ladder.rungs:
        reached = {seed: outcomes[name, seed] for seed in ladder.seeds if (name, seed) in outcomes}
        if len(reached) < len(ladder.seeds):
            continue
        every = list(reached.values())
        losses = [o.validation_loss for o in every]
        rung = RUNGS.get(name)
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
    return {"data": name_of_text, "faithful": ladder.faithful, "seeds": list(ladder.seeds), "rungs": rungs}


MEANS = (
    "steps",
    "seconds",
    "initial_loss",
    "train_loss",
    "validation_loss",
    "sampled_train_loss",
    "sampled_validation_loss",
    "corrected_loss",
)


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
