"""A run from beginning to end: builds, trains, evaluates, samples and saves, telling its caller what happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict
from functools import cached_property
from math import inf, isfinite
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from quoth.generate.engine import Engine
from quoth.model.gpt import GPT
from quoth.recipes.diagnose import fault, left_out, overfitting, rate_too_high, returned, unending
from quoth.recipes.events import STOPS, Event, Stop
from quoth.recipes.limits import memory_refusals
from quoth.recipes.prepare import in_precision, prepare
from quoth.recipes.recipe import Recipe, to_toml, with_origins
from quoth.recipes.state import RunState, read_state
from quoth.recipes.summary import summary
from quoth.studio.report import write_report
from quoth.system.device import DTYPES, Hardware, be_deterministic, environment, keep_freed_memory
from quoth.system.errors import InputError
from quoth.system.files import as_json, read_json, write_atomic
from quoth.system.memory import peak_bytes
from quoth.system.world import World
from quoth.text.batches import Later
from quoth.text.corpus import Corpus
from quoth.text.sources import SOURCES
from quoth.train.checkpoint import load_optimizer, load_weights, snapshot, write_together
from quoth.train.evaluate import Evaluation, Interrupted, evaluate
from quoth.train.keeper import Keeper, checkpoints, last_good
from quoth.train.loop import Step, fit
from quoth.train.objectives import Objective, next_token
from quoth.train.optimizers import make_optimizer
from quoth.train.parallel import own, shard
from quoth.train.run import Metrics
from quoth.train.schedule import Budget, Clock, Steps, trapezoid
from quoth.train.spikes import Spikes

LOG_EVERY = 10
EVALUATION_SHARE = 0.03
# Seconds: more often than this nobody can read.
SHORTEST_PAUSE = 2.0
# Steps in a row that are left out before a run goes back, and how often it does that before it gives up.
PATIENCE = 20
RETURNS = 3


class Session:
    """One run. Iterate `events()` to make it happen; set `stop` to end it after the step that is under way.

    Where it was interrupted it evaluates once more; where it was terminated it only saves. Before it has `begun` to
    take steps there is nothing to save.

    `started` is the `time.monotonic()` that minutes are counted from: the command's beginning. In a world of several
    processes each has a session, and the first one writes; `stop` is what one of them wants, `ended` what all agreed
    on.
    """

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus,
        hardware: Hardware,
        folder: Path,
        started: float,
        world: World | None = None,
    ) -> None:
        self.recipe, self.corpus, self.hardware, self.folder, self.started = recipe, corpus, hardware, folder, started
        self.world = world or World()
        self.stop: Stop = ""
        self.ended: Stop = ""
        self.begun = False
        self.state = RunState()
        self.remarks: list[str] = []
        keep_freed_memory()
        run = recipe.run
        if run.deterministic:
            be_deterministic()
        torch.manual_seed(run.seed)
        self.model = GPT(recipe.model)
        # One process that was not launched holds what several had shards of.
        self.sharded = run.shard and self.world.launched
        if self.sharded:
            shard(self.model, self.world, hardware.device, DTYPES[hardware.dtype])  # A block at a time onto the device.
        self.model.to(hardware.device)
        self.optimizer = make_optimizer(self.model, recipe.optimizer, DTYPES[hardware.dtype])
        self.batches = corpus.batches(
            run.batch,
            recipe.model.context,
            seed=run.seed,
            accumulate=run.accumulate,
            world=self.world,
            device=hardware.device,
        )
        self.spikes = Spikes(sigmas=run.spikes)
        self.keeper = Keeper(folder, run.keep_last, run.keep_every) if self.world.leads else None
        self.metrics = Metrics(folder, silent=not self.world.leads)
        self.evaluation: Evaluation | None = None
        self._saved_step = self._evaluated_step = -1
        self._evaluation_seconds = 0.0
        self._next_evaluation = self._next_save = inf

    def resume(self, checkpoint: Path | None) -> None:
        """Take up where a checkpoint stands, which is whole; at the beginning where there is none yet.

        Raises:
            InputError: it is of another run.
        """
        if checkpoint:
            self._take_up(checkpoint)
        else:
            self.remarks.append("There was no checkpoint yet, so the run begins anew.")
        self.started -= self.state.seconds
        self.metrics.cut(self.state.step)

    def begin_with(self, checkpoint: Path) -> None:
        """Take a checkpoint's weights, and nothing else of it.

        Raises:
            InputError: they are of another shape.
        """
        load_weights(checkpoint, self.model)

    def _take_up(self, folder: Path) -> None:
        load_weights(folder, self.model)
        load_optimizer(folder, self.optimizer)
        self.state = read_state(read_json(folder / "state.json"))
        self.spikes.losses = self.state.losses
        self._saved_step, self._evaluated_step = self.state.step, -1

    def events(self) -> Iterator[Event]:
        """Train, telling what happens."""
        if self.world.leads:
            write_atomic(self.folder / "environment.json", self._facts)
        with memory_refusals(self.recipe):
            for text in self.remarks:
                yield from self._note("", text)
            objective = in_precision(next_token, self.hardware)
            view = yield from self._ready(objective)
            yield from self._evaluate(0.0)
            yield from self._train(view, objective)
            yield from self._end()

    @cached_property
    def _facts(self) -> str:
        """What the run's numbers depend on besides its settings: versions, the machine, the hashes of what is read."""
        read = {name: self.corpus.manifest[name] for name in ("sources", "tokenizer_sha256")}
        return as_json({**environment(), **asdict(self.hardware), "world": self.world.size, **read})

    def _ready(self, objective: Objective) -> Generator[Event, None, nn.Module]:
        begin = time.monotonic()
        again = self.recipe.run.recompute
        view, why = prepare(self.model, objective, self.batches, self.hardware, self.world, recompute=again)
        if why:
            yield from self._note("compile", f"torch.compile failed, so training goes on without it: {why}")
        self.compile_seconds = time.monotonic() - begin
        yield Event("ready", text=f"{self.compile_seconds:.1f} s to compile" if self.hardware.compile else "")
        return view

    def _train(self, view: nn.Module, objective: Objective) -> Iterator[Event]:
        now = time.monotonic()
        began, state = now - self.state.training_seconds, self.state
        budget = self._budget(reserve=1.2 * self._evaluation_seconds + 2.0)
        self._next_evaluation = now + self._pause()
        self._next_save = now + 60 * self.recipe.run.checkpoint_minutes
        steps = self._steps(view, objective, budget)
        while (step := next(steps, None)) is not None:
            state, self.begun = self.state, True
            state.step, state.training_seconds = step.number, time.monotonic() - began
            if step.moved:
                state.learned(step.loss)
                rate = self.batches.tokens_per_step * step.number / max(state.training_seconds, 1e-9)
                if step.number % LOG_EVERY == 0:
                    self._log(step, rate)
                yield Event("step", step.number, step.progress, state.train_loss or 0.0, rate)
            else:
                yield from self._left_out(step)
                if state.bad >= PATIENCE:
                    yield from self._go_back(step)
                    steps = self._steps(view, objective, budget)
                    continue
            evaluates, saves = self._agreed(step)
            if saves and not self.ended:
                yield from self._save()
            if evaluates and self.ended != "terminated":
                yield from self._evaluate(step.progress)
                self._agree_to_stop()
            if self.ended:
                break

    def _steps(self, view: nn.Module, objective: Objective, budget: Budget) -> Iterator[Step]:
        c = self.recipe.optimizer
        return fit(
            view,
            self.optimizer,
            Later(self.batches, self.state.dropped),
            objective,
            budget=budget,
            schedule=lambda progress: trapezoid(progress, c.warmup, c.cooldown),
            clip=c.clip,
            world=self.world,
            first=self.state.step,
            spikes=self.spikes,
        )

    def _agreed(self, step: Step) -> tuple[bool, bool]:
        """Whether to evaluate and save now, and to stop: for all processes what is so for any of them.

        While steps are left out there is nothing new to evaluate, and what is saved would be no better.
        """
        run, number, now = self.recipe.run, step.number, time.monotonic()
        due = now >= self._next_save or bool(run.checkpoint_every and number % run.checkpoint_every == 0)
        stop, evaluates, saves = self.world.most([STOPS.index(self.stop), self._due(number), due])
        self.ended = STOPS[int(stop)]
        return bool(evaluates) and not self.state.bad, bool(saves) and not self.state.bad

    def _agree_to_stop(self) -> None:
        self.ended = STOPS[int(self.world.most([STOPS.index(self.stop)])[0])]

    def _due(self, step: int) -> bool:
        run, now = self.recipe.run, time.monotonic()
        if run.evaluate_every:
            return step % run.evaluate_every == 0
        # The last evaluation comes anyway; one more right before it would push it past the end.
        late = run.minutes and now + 3 * self._evaluation_seconds > self.started + 60 * run.minutes
        return now >= self._next_evaluation and not late

    def _budget(self, reserve: float) -> Budget:
        run, used = self.recipe.run, self.state.training_seconds
        if run.steps:
            return Steps(run.steps)
        left = self.started + 60 * run.minutes - time.monotonic() - reserve
        return Clock(max(left, 1.0 if self.state.step == 0 else 0.0) + used, used=used)

    def _pause(self) -> float:
        """Seconds until the next evaluation, so that they take EVALUATION_SHARE of the time; the first comes early."""
        return max(self._evaluation_seconds / EVALUATION_SHARE, SHORTEST_PAUSE)

    def _evaluate(self, progress: float, *, final: bool = False) -> Iterator[Event]:
        """A checkpoint, the exact validation loss, a sample, and a sentence if one is deserved."""
        begin, step = time.monotonic(), self.state.step
        if final and self._evaluated_step == step:
            return
        yield from self._save()
        try:
            with self.hardware.autocast():
                result = evaluate(
                    self.model,
                    self.corpus.validation,
                    self.corpus.tokenizer,
                    context=self.recipe.model.context,
                    world=self.world,
                    go_on=lambda: not self.world.most([self.stop == "terminated"])[0],
                )
        except Interrupted:
            return
        self._evaluated_step = step
        if not isfinite(result.loss):
            if self.keeper and self.begun:
                self.keeper.drop(step)
            self._give_up(f"The validation loss is not finite after step {step}")
        self.evaluation = result
        is_best = self.state.judged(result.loss)
        self._record(validation_loss=result.loss, bits_per_byte=result.bits_per_byte, perplexity=result.perplexity)
        yield Event("evaluated", step, progress, self.state.train_loss or float("nan"), evaluation=result)
        if step:
            if is_best and self._saved_step == step and (keeper := self.keeper):
                yield from self._try_to_write(lambda: keeper.mark_best(step), final=final)
            yield from self._sample(progress)
            for kind, text in (*overfitting(self.state), *rate_too_high(self.state)):
                yield from self._note(kind, text)
        now = time.monotonic()
        self._evaluation_seconds = now - begin
        self._next_evaluation = now + self._pause()

    def _sample(self, progress: float) -> Iterator[Event]:
        tokens = self.recipe.run.sample_tokens
        if tokens and (self.world.leads or self.sharded):
            text = Engine(self.model, self.corpus.tokenizer, threads=1).samples(
                tokens=tokens, seed=self.recipe.run.seed
            )[0]
            if not self.world.leads:
                return
            path = self.folder / "samples" / f"step-{self.state.step:06d}.txt"
            path.parent.mkdir(exist_ok=True)
            yield from self._try_to_write(lambda: write_atomic(path, text))
            yield Event("sampled", self.state.step, progress, text=text)

    def _save(self) -> Iterator[Event]:
        """A checkpoint of this step, unless there is one."""
        state, step = self.state, self.state.step
        if step in (0, self._saved_step):
            return
        broken = not all(bool(own(p).isfinite().all()) for p in self.model.parameters())
        if self.world.most([broken])[0]:
            return
        self._next_save = time.monotonic() + 60 * self.recipe.run.checkpoint_minutes
        self._saved_step = step
        state.seconds, state.losses = time.monotonic() - self.started, list(self.spikes.losses)
        settings = to_toml(with_origins(self.recipe, lambda name: "as it began"))
        texts = {"run.toml": settings, "environment.json": self._facts}
        content = (self.model, self.corpus.tokenizer, asdict(state), self.optimizer)
        if self.sharded:
            path = self.folder / "checkpoints" / f"step-{step:06d}"
            yield from self._try_to_write(lambda: write_together(path, *content, self.world, texts))
        elif keeper := self.keeper:
            yield from self._try_to_write(lambda: keeper.save(snapshot(*content, texts), step))
        if self.sharded and self.keeper:
            self.keeper.prune(step)

    def _try_to_write(self, write: Callable[[], object], *, final: bool = False) -> Iterator[Event]:
        """A disk that is full for a while does not end a run; at its end it is an error."""
        try:
            write()
        except InputError as error:
            if final:
                raise
            self._saved_step = -1
            yield from self._note("disk", f"{error} Training goes on, and the next checkpoint is tried as usual.")

    def _left_out(self, step: Step) -> Iterator[Event]:
        """A step that moved nothing: each is logged, and the first of some is told."""
        self.state.bad += 1
        batch = step.number - 1 + self.state.dropped
        self._record(left_out=batch, because=fault(step))
        if self.state.bad == 1:
            yield from self._note("", left_out(step, batch))

    def _go_back(self, step: Step) -> Iterator[Event]:
        """To the last whole checkpoint, and on from there with the batches that come next now."""
        before = self.state
        if self.keeper:
            yield from self._try_to_write(self.keeper.finish)
        self.world.most([0.0])  # What the first process wrote is there for all.
        folder = last_good(self.folder)
        if before.returns == RETURNS or folder is None:
            self._give_up(unending(step, before))
        self._take_up(folder)
        self.state.goes_back_from(before, step.number)
        yield from self._note("", returned(step, before, self.state))

    def _give_up(self, what: str) -> NoReturn:
        kept = "The last good checkpoint is kept" if checkpoints(self.folder) else "Nothing was saved yet"
        rate = self.recipe.optimizer.learning_rate
        text = f"{what}; a lower --learning-rate than {rate:g} would help. {kept}."
        self._record(note=text)
        raise InputError(text)

    def _note(self, kind: str, text: str) -> Iterator[Event]:
        """Tell and log something; of a kind once a run."""
        if kind not in self.state.notes:
            self.state.notes += [kind] if kind else []
            self._record(note=text)
            yield Event("note", self.state.step, text=text)

    def _log(self, step: Step, rate: float) -> None:
        self._record(
            loss=step.loss,
            learning_rate=step.multiplier,
            gradient_norm=step.gradient_norm,
            tokens_per_second=round(rate, 1),
        )

    def _record(self, **values: Any) -> None:
        step, seconds = self.state.step, round(time.monotonic() - self.started, 3)
        self.metrics.add(step=step, seconds=seconds, tokens=step * self.batches.tokens_per_step, **values)

    def _end(self) -> Iterator[Event]:
        self._agree_to_stop()
        yield from self._save()
        if self.ended != "terminated":
            yield from self._evaluate(1.0, final=True)
        if self.keeper:
            self.keeper.finish()
        self.metrics.flush()
        yield Event("finished", self.state.step, 1.0, self.state.train_loss or float("nan"), summary=self._summarise())

    def _summarise(self) -> dict[str, Any]:
        state, seconds = self.state, time.monotonic() - self.started
        counts = {"parameters": self.model.parameters_count, "tokens": state.step * self.batches.tokens_per_step}
        known = summary(self.folder, self.corpus, state, self.evaluation, seconds, counts, self.ended)
        known["compile_seconds"] = round(self.compile_seconds, 2)
        known["peak_bytes"] = peak_bytes(self.hardware.device)
        if self.world.leads:
            write_atomic(self.folder / "summary.json", as_json(known))
            source = SOURCES.get(self.recipe.data.data)
            write_report(self.folder, source.published if source else ())
        return known
