"""A run from beginning to end: builds, trains, evaluates, samples and saves, telling its caller what happens."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from quoth.generate.engine import Engine
from quoth.model.gpt import GPT
from quoth.recipes.memory import memory_refusals
from quoth.recipes.recipe import Recipe
from quoth.studio.report import write_report
from quoth.system.device import DTYPES, Hardware, environment, keep_freed_memory
from quoth.system.errors import InputError
from quoth.system.files import write_atomic
from quoth.text.batches import Batch, Windows
from quoth.text.corpus import Corpus
from quoth.text.sources import SOURCES
from quoth.train.checkpoint import Keeper, kept, load, load_optimizer
from quoth.train.compile import FAST, TRUSTING, compiled
from quoth.train.evaluate import Evaluation, evaluate
from quoth.train.loop import Step, fit
from quoth.train.objectives import Objective, next_token
from quoth.train.optimizers import make_optimizer
from quoth.train.run import Metrics
from quoth.train.schedule import Budget, Clock, Steps, trapezoid

LOG_EVERY = 10
EVALUATION_SHARE = 0.03
# Seconds: more often than this nobody can read.
SHORTEST_PAUSE = 2.0
PATIENCE = 20


@dataclass(frozen=True)
class Event:
    """Something that happened in a run; `kind` is ready, step, evaluated, sampled, note or finished."""

    kind: str
    step: int = 0
    progress: float = 0.0
    loss: float = 0.0
    tokens_per_second: float = 0.0
    evaluation: Evaluation | None = None
    text: str = ""
    summary: dict[str, Any] = field(default_factory=dict)


class Session:
    """One run. Iterate `events()` to make it happen; set `stop` to end it after the step that is under way.

    `started` is the `time.monotonic()` that minutes are counted from: the command's beginning.
    """

    def __init__(self, recipe: Recipe, corpus: Corpus, hardware: Hardware, folder: Path, started: float) -> None:
        self.recipe, self.corpus, self.hardware, self.folder, self.started = recipe, corpus, hardware, folder, started
        self.stop = False
        keep_freed_memory()
        torch.manual_seed(recipe.run.seed)
        self.model = GPT(recipe.model).to(hardware.device)
        self.optimizer = make_optimizer(self.model, recipe.optimizer, DTYPES[hardware.dtype])
        self.batches = corpus.batches(
            recipe.run.batch,
            recipe.model.context,
            seed=recipe.run.seed,
            accumulate=recipe.run.accumulate,
            device=hardware.device,
        )
        self.keeper = Keeper(folder)
        self.step = 0
        self.training_seconds = 0.0
        self.best = float("inf")
        self.best_step = 0
        self.first_loss = float("inf")
        self.worse = 0
        self.train_loss = float("nan")
        self.notes: set[str] = set()

    def resume(self) -> None:
        """Take up where the last checkpoint stands.

        Raises:
            InputError: there is none, or it is broken.
        """
        folder = kept(self.folder, "last")
        checkpoint = load(folder, self.hardware.device)
        self.model.load_state_dict(checkpoint.model.state_dict())
        load_optimizer(folder, self.optimizer)
        state = checkpoint.state
        self.step, self.training_seconds = state["step"], state["training_seconds"]
        self.best, self.best_step, self.first_loss = state["best"], state["best_step"], state["first_loss"]
        self.train_loss = state["train_loss"]

    def events(self) -> Iterator[Event]:
        """Train, telling what happens."""
        metrics = Metrics(self.folder)
        facts = {**environment(), **asdict(self.hardware), "sources": self.corpus.manifest["sources"]}
        write_atomic(self.folder / "environment.json", json.dumps(facts, indent=2))
        with closing_quietly(metrics), memory_refusals(self.recipe):
            objective = yield from self._ready(metrics)
            yield from self._evaluate(metrics, 0.0)
            cost = self._evaluation_seconds
            budget = self._budget(reserve=1.2 * cost + 2.0)
            began, next_evaluation = time.monotonic() - self.training_seconds, time.monotonic() + self._pause(cost)
            smooth = None if self.step == 0 else self.train_loss
            bad = 0
            for step in self._steps(objective, budget):
                self.step, now = step.number, time.monotonic()
                self.training_seconds = now - began
                if not step.finite:
                    bad += 1
                    yield from self._nonfinite(step, bad, metrics)
                    continue
                bad = 0
                smooth = step.loss if smooth is None else smooth + (step.loss - smooth) * max(0.02, 1 / step.number)
                self.train_loss = smooth
                rate = self.batches.tokens_per_step * step.number / max(self.training_seconds, 1e-9)
                if step.number % LOG_EVERY == 0:
                    self._log(metrics, step, rate)
                yield Event("step", step.number, step.progress, smooth, rate)
                if self._due(step.number, next_evaluation):
                    yield from self._evaluate(metrics, step.progress)
                    next_evaluation = time.monotonic() + self._pause(self._evaluation_seconds)
                if self.stop:
                    break
            yield from self._evaluate(metrics, 1.0, final=True)
            yield Event("finished", self.step, 1.0, self.train_loss, summary=self._summarise())

    def _ready(self, metrics: Metrics) -> Generator[Event, None, Objective]:
        """Compile by one forward and backward pass that changes nothing, so that the clock's schedule is not upset."""
        begin = time.monotonic()
        objective = _precise(next_token, self.hardware)
        for options in (TRUSTING, FAST) if self.hardware.compile else ():
            fast = _precise(next_token, self.hardware, compiled(self.model, options))
            try:
                _rehearse(self.model, fast, self.batches)
                objective = fast
                break
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        else:
            if self.hardware.compile:
                yield from self._note(
                    "compile", f"torch.compile failed, so training goes on without it: {reason}", metrics
                )
        torch.manual_seed(self.recipe.run.seed + self.step)
        self.compile_seconds = time.monotonic() - begin
        yield Event("ready", text=f"{self.compile_seconds:.1f} s to compile" if self.hardware.compile else "")
        return objective

    def _steps(self, objective: Objective, budget: Budget) -> Iterator[Step]:
        c = self.recipe.optimizer
        return fit(
            self.model,
            self.optimizer,
            self.batches,
            objective,
            budget=budget,
            schedule=lambda progress: trapezoid(progress, c.warmup, c.cooldown),
            clip=c.clip,
            first=self.step,
        )

    def _budget(self, reserve: float) -> Budget:
        run = self.recipe.run
        if run.steps:
            return Steps(run.steps)
        left = self.started + 60 * run.minutes - time.monotonic() - reserve
        return Clock(max(left, 1.0) + self.training_seconds, used=self.training_seconds)

    def _pause(self, cost: float) -> float:
        """Seconds until the next evaluation, so that they take EVALUATION_SHARE of the time; the first comes early."""
        return max(cost / EVALUATION_SHARE, SHORTEST_PAUSE)

    def _due(self, step: int, next_evaluation: float) -> bool:
        run, now = self.recipe.run, time.monotonic()
        if run.evaluate_every:
            return step % run.evaluate_every == 0
        # The last evaluation comes anyway; one more right before it would push it past the end.
        late = run.minutes and now + 3 * self._evaluation_seconds > self.started + 60 * run.minutes
        return now >= next_evaluation and not late

    def _evaluate(self, metrics: Metrics, progress: float, *, final: bool = False) -> Iterator[Event]:
        """The exact validation loss, a sample, a checkpoint, and a sentence if one is deserved."""
        begin = time.monotonic()
        if final and self._evaluated_at == self.step:
            return
        with self.hardware.autocast():
            result = evaluate(
                self.model, self.corpus.validation, self.corpus.tokenizer, context=self.recipe.model.context
            )
        self._evaluated_at = self.step
        if not isfinite(result.loss):
            self._give_up(f"The validation loss is not finite after step {self.step}", metrics)
        self.evaluation = result
        if self.step == 0:
            self.first_loss = result.loss
        metrics.add(
            step=self.step,
            seconds=round(time.monotonic() - self.started, 3),
            tokens=self.step * self.batches.tokens_per_step,
            validation_loss=result.loss,
            bits_per_byte=result.bits_per_byte,
            perplexity=result.perplexity,
        )
        yield Event("evaluated", self.step, progress, self.train_loss, evaluation=result)
        is_best = result.loss < self.best
        self.worse = 0 if is_best else self.worse + 1
        if is_best:
            self.best, self.best_step = result.loss, self.step
        if self.step:
            yield from self._sample(progress)
            self._save(best=is_best)
            yield from self._remark(result, metrics)
        self._evaluation_seconds = time.monotonic() - begin

    _evaluated_at = -1
    _evaluation_seconds = 0.0

    def _sample(self, progress: float) -> Iterator[Event]:
        tokens = self.recipe.run.sample_tokens
        if tokens:
            text = Engine(self.model, self.corpus.tokenizer).samples(tokens=tokens, seed=self.recipe.run.seed)[0]
            write_atomic(self.folder / "samples" / f"step-{self.step:06d}.txt", text)
            yield Event("sampled", self.step, progress, text=text)

    def _save(self, *, best: bool) -> None:
        state = {
            "step": self.step,
            "training_seconds": self.training_seconds,
            "validation_loss": self.evaluation.loss,
            "train_loss": self.train_loss,
            "best": self.best,
            "best_step": self.best_step,
            "first_loss": self.first_loss,
        }
        self.keeper.save(self.model, self.corpus.tokenizer, state, self.optimizer, best=best)

    def _remark(self, result: Evaluation, metrics: Metrics) -> Iterator[Event]:
        if self.worse >= 2 and self.train_loss < result.loss:
            yield from self._note(
                "overfitting",
                f"Overfitting since step {self.best_step}: the validation loss rises while the training loss falls; "
                "the best checkpoint is kept. More text, more dropout or less time would help.",
                metrics,
            )
        if result.loss > self.first_loss:
            yield from self._note(
                "rate",
                f"The loss is higher than before training ({result.loss:.2f} > {self.first_loss:.2f}): this looks like "
                "a learning rate that is too high.",
                metrics,
            )

    def _note(self, kind: str, text: str, metrics: Metrics) -> Iterator[Event]:
        if kind not in self.notes:
            self.notes.add(kind)
            self._write_note(text, metrics)
            yield Event("note", self.step, text=text)

    def _nonfinite(self, step: Step, bad: int, metrics: Metrics) -> Iterator[Event]:
        """Say so of the first of some steps, and give up where they do not end."""
        what = "gradient" if isfinite(step.loss) else "loss"
        if bad >= PATIENCE:
            self._give_up(f"The {what} was not finite for {bad} steps, since step {step.number - bad + 1}", metrics)
        if bad == 1:
            text = f"The {what} is not finite at step {step.number} (batch {step.number - 1}); such steps are skipped."
            self._write_note(text, metrics)
            yield Event("note", step.number, text=text)

    def _give_up(self, what: str, metrics: Metrics) -> NoReturn:
        kept = "The last good checkpoint is kept" if self.keeper.kept else "Nothing was saved yet"
        rate = self.recipe.optimizer.learning_rate
        text = f"{what}; a lower --learning-rate than {rate:g} would help. {kept}."
        self._write_note(text, metrics)
        raise InputError(text)

    def _write_note(self, text: str, metrics: Metrics) -> None:
        metrics.add(step=self.step, seconds=round(time.monotonic() - self.started, 3), note=text)

    def _log(self, metrics: Metrics, step: Step, rate: float) -> None:
        metrics.add(
            step=step.number,
            seconds=round(time.monotonic() - self.started, 3),
            tokens=step.number * self.batches.tokens_per_step,
            loss=step.loss,
            learning_rate=step.multiplier,
            gradient_norm=step.gradient_norm,
            tokens_per_second=round(rate, 1),
        )

    def _summarise(self) -> dict[str, Any]:
        tokens = self.step * self.batches.tokens_per_step
        summary = {
            "run": self.folder.name,
            "folder": str(self.folder),
            "data": self.corpus.name,
            "tokenizer": self.corpus.tokenizer.name,
            "parameters": self.model.parameters_count,
            "steps": self.step,
            "tokens": tokens,
            "seconds": round(time.monotonic() - self.started, 2),
            "training_seconds": round(self.training_seconds, 2),
            "compile_seconds": round(self.compile_seconds, 2),
            "tokens_per_second": round(tokens / max(self.training_seconds, 1e-9), 1),
            "train_loss": self.train_loss,
            "validation_loss": self.best,
            "best_step": self.best_step,
            "last_validation_loss": self.evaluation.loss,
            "bits_per_byte": self.evaluation.bits_per_byte * self.best / self.evaluation.loss,
            "stopped": "interrupted" if self.stop else "finished",
        }
        write_atomic(self.folder / "summary.json", json.dumps(summary, indent=2))
        source = SOURCES.get(self.recipe.data.data)
        write_report(self.folder, source.published if source else ())
        return summary


@contextmanager
def closing_quietly(metrics: Metrics) -> Iterator[None]:
    """Close the file at the end. Each line was written when it was added; one that a full disk refused said so then."""
    try:
        yield
    finally:
        with suppress(OSError):
            metrics.close()


def _precise(objective: Objective, hardware: Hardware, view: nn.Module | None = None) -> Objective:
    """The objective under autocast, of a compiled view of the model where there is one."""

    def with_autocast(model: nn.Module, batch: Batch) -> Tensor:
        with hardware.autocast():
            return objective(model if view is None else view, batch)

    return with_autocast


def _rehearse(model: nn.Module, objective: Callable[[nn.Module, Batch], Tensor], batches: Windows) -> None:
    model.train()
    objective(model, batches[0][0]).backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)
