"""A session carries out a run: it trains, evaluates, samples and saves, and reports events to its caller."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from quoth.model.gpt import GPT
from quoth.recipes.diagnose import fault, left_out, losing, returned, unending
from quoth.recipes.events import STOPS, Evaluated, Event, Finished, Note, Ready, Sampled, Stop, Trained
from quoth.recipes.limits import check_disk, checkpoint_bytes, memory_refusals
from quoth.recipes.prepare import in_precision, prepare
from quoth.recipes.recipe import Recipe, to_toml, with_origins
from quoth.recipes.stage import Stage, Watch
from quoth.recipes.state import RunState, read_state
from quoth.recipes.summary import LOG_EVERY, log_line, summary, write_end
from quoth.recipes.timetable import Timetable
from quoth.system.device import DTYPES, Hardware, be_deterministic, environment, keep_freed_memory
from quoth.system.errors import InputError, Interrupted
from quoth.system.files import as_json, read_json, write_atomic, writing
from quoth.system.lock import Lock
from quoth.system.world import World
from quoth.text.batches import Later
from quoth.train.checkpoint import bare, load_optimizer, load_weights
from quoth.train.compile import remember_compile
from quoth.train.keeper import checkpoints, last_good
from quoth.train.loop import Step, fit
from quoth.train.objectives import Objective
from quoth.train.optimizers import make_optimizer
from quoth.train.parallel import own, shard
from quoth.train.run import Metrics, write_sample
from quoth.train.saving import Checkpoints
from quoth.train.schedule import Clock, trapezoid
from quoth.train.snapshots import Snapshots
from quoth.train.spikes import Spikes

# How many steps in a row are left out before a run goes back, and how often a run goes back before it gives up.
PATIENCE = 20
RETURNS = 3


class Session:
    """One run of a stage. Iterate over `events()` to carry it out; set `stop` to end it after the current step.

    An interrupted run evaluates once more; a terminated run only saves. Before the first step, which sets `begun`,
    there is nothing to save.

    `started` is the `time.monotonic()` that minutes are counted from: the command's beginning. In a world of several
    processes each process has a session, and the first one writes files; `stop` is what this process wants, and `ended`
    is what all agreed on. `ask_folder` takes the reason why the last checkpoint could not be written, and may return
    another folder for it.
    """

    def __init__(
        self,
        recipe: Recipe,
        stage: Stage,
        hardware: Hardware,
        folder: Path,
        started: float,
        world: World | None = None,
        lock: Lock | None = None,
    ) -> None:
        self.recipe, self.stage, self.hardware, self.folder, self.started = recipe, stage, hardware, folder, started
        self.world, self.lock = world or World(), lock
        self.stop: Stop = ""
        self.ended: Stop = ""
        self.begun = False
        self.state = RunState()
        self.remarks: list[str] = [lock.missing] if lock and lock.missing else []
        self.ask_folder: Callable[[str], Path | None] = lambda problem: None
        keep_freed_memory(of_any_size=recipe.tune is None)
        run = recipe.run
        if run.deterministic:
            be_deterministic()
        torch.manual_seed(run.seed)
        self.model: nn.Module = GPT(recipe.model) if stage.model is None else stage.model
        self.policy = bare(self.model)
        # A process that no launcher started holds the whole model, even where several sharded it before.
        self.sharded = run.shard and self.world.launched
        if self.sharded:
            shard(self.policy, self.world, hardware.device, DTYPES[hardware.dtype])  # This moves one block at a time.
        self.model.to(hardware.device)
        self.optimizer = make_optimizer(self.model, recipe.optimizer, DTYPES[hardware.dtype])
        self.spikes = Spikes(sigmas=run.spikes)
        self._write_to(folder)
        self._evaluated_step, self._unsaved = -1, ""

    def _write_to(self, folder: Path) -> None:
        run, self.folder = self.recipe.run, folder
        self.checkpoints = Checkpoints(folder, self.world, run.keep_last, run.keep_every, sharded=self.sharded)
        self.snapshots = Snapshots(folder, self.world, run.snapshots, sharded=self.sharded)
        self.metrics = Metrics(folder, silent=not self.world.leads)

    def resume(self, checkpoint: Path | None) -> None:
        """Continue from an intact checkpoint, or from the beginning if there is none yet.

        Raises:
            InputError: the checkpoint belongs to another run.
        """
        if checkpoint:
            self._take_up(checkpoint)
        else:
            self.remarks.append("There was no checkpoint yet, so the run starts from the beginning.")
        self.started -= self.state.seconds
        self.metrics.cut(self.state.step)

    def begin_with(self, checkpoint: Path) -> None:
        """Load a checkpoint's weights, and nothing else from it.

        Raises:
            InputError: the weights have another shape.
        """
        load_weights(checkpoint, self.model)

    def _take_up(self, folder: Path) -> None:
        load_weights(folder, self.model)
        load_optimizer(folder, self.optimizer)
        self.state = read_state(read_json(folder / "state.json"))
        self.spikes.losses = self.state.losses
        self.checkpoints.step, self._evaluated_step = self.state.step, -1
        self.snapshots.cut(self.state.step)

    def events(self) -> Iterator[Event]:
        """Train, and yield an event for everything that happens."""
        try:
            with memory_refusals(self.recipe):
                yield from self._begin()
                objective = in_precision(self.stage.objective, self.hardware)
                view = yield from self._prepare()
                yield from self._evaluate(0.0)
                if self.state.progress < 0:
                    yield from self._look_back(0.0)
                yield from self._train(view, objective)
                yield from self._end()
        finally:
            self.snapshots.wait()
            if self.lock:
                self.lock.release()

    def _begin(self) -> Iterator[Event]:
        few = check_disk(self.folder, self.model, self.recipe, self.world)
        self.timetable = Timetable(self.recipe.run, self.started, checkpoint_bytes(self.model, self.recipe.optimizer))
        if self.world.leads:
            write_atomic(self.folder / "environment.json", self._facts)
        for text in (*self.remarks, few):
            yield from self._note("", text)

    @cached_property
    def _settings(self) -> str:
        return to_toml(with_origins(self.recipe, lambda name: "as it began"))

    @cached_property
    def _facts(self) -> str:
        """What the run's numbers depend on besides its settings: versions, the machine, and hashes of the data."""
        return as_json({**environment(), **asdict(self.hardware), "world": self.world.size, **self.stage.facts})

    def _prepare(self) -> Generator[Event, None, nn.Module]:
        begin, stage, how = time.monotonic(), self.stage, self.hardware
        view, why = prepare(
            self.model, stage.objective, stage.example, how, self.world, recompute=self.recipe.run.recompute
        )
        if why:
            yield from self._note("compile", f"torch.compile failed, so training goes on without it: {why}.")
        self.compile_seconds, compiled = time.monotonic() - begin, how.compile and not why
        if compiled and self.world.leads:
            remember_compile(self.compile_seconds, self.recipe.model.layers)
        yield Ready(self.state.step, self.compile_seconds, compiled)
        return view

    def _train(self, view: nn.Module, objective: Objective) -> Iterator[Event]:
        began, self.budget = time.monotonic() - self.state.training_seconds, self.timetable.budget(self.state)
        self.timetable.begin()
        steps = self._steps(view, objective)
        while (step := next(steps, None)) is not None:
            state, self.begun = self.state, True
            state.step, state.training_seconds = step.number, time.monotonic() - began
            state.step_seconds += step.seconds
            if step.moved:
                state.learned(step.loss)
                speed = self.stage.tokens_per_step * step.number / max(state.step_seconds, 1e-9)
                if step.number % max(LOG_EVERY, self.stage.period) == 0:
                    self._record(**log_line(step, self.recipe.optimizer.learning_rate, speed))
                yield from self._watch(step)
                yield from self._look_back(step.progress)
                yield Trained(step.number, step.progress, state.train_loss or 0.0, speed)
            else:
                yield from self._left_out(step)
                if state.bad >= PATIENCE:
                    yield from self._go_back(step)
                    if isinstance(self.budget, Clock):
                        self.budget.pace = self.state.pace
                    steps = self._steps(view, objective)
                    continue
            evaluates, saves = self._agreed(step)
            if saves and not self.ended:
                yield from self._save()
            if evaluates and self.ended != "terminated":
                yield from self._evaluate(step.progress)
                self._agree_to_stop()
            if self.ended:
                break

    def _steps(self, view: nn.Module, objective: Objective) -> Iterator[Step]:
        c = self.recipe.optimizer
        return fit(
            view,
            self.optimizer,
            Later(self.stage.batches, self.state.dropped),
            objective,
            budget=self.budget,
            schedule=lambda progress: trapezoid(progress, c.warmup, c.cooldown),
            clip=c.clip,
            world=self.world,
            first=self.state.step,
            spikes=self.spikes,
        )

    def _agreed(self, step: Step) -> tuple[bool, bool]:
        """Whether to evaluate and whether to save now. If one process wants to, or wants to stop, all processes do.

        While steps are left out the weights do not change, so there is nothing new to evaluate or to save.
        """
        due = self.timetable.evaluates(step.number), self.timetable.saves(step.number)
        stop, evaluates, saves = self.world.most([STOPS.index(self.stop), *due])
        if step.number % self.stage.period:
            return False, False
        self.ended = STOPS[int(stop)]
        return bool(evaluates) and not self.state.bad, bool(saves) and not self.state.bad

    def _agree_to_stop(self) -> None:
        self.ended = STOPS[int(self.world.most([STOPS.index(self.stop)])[0])]

    def _evaluate(self, progress: float, *, final: bool = False) -> Iterator[Event]:
        """Save a checkpoint, evaluate the model, write a sample, and note overfitting or too high a learning rate."""
        begin, step = time.monotonic(), self.state.step
        if final and self._evaluated_step == step:
            return
        yield from self._save()
        try:
            found = self.stage.judge(self.policy, lambda: not self.world.most([self.stop == "terminated"])[0])
        except Interrupted:
            return
        self._evaluated_step = step
        if not isfinite(found.loss):
            if self.begun:
                self.checkpoints.drop(step)
            self._give_up(f"The validation loss is not finite after step {step}")
        is_best = self.state.judged(found.loss, found.metrics)
        self._record(validation_loss=found.loss, **found.metrics)
        yield Evaluated(step, progress, self.state.train_loss, found)
        if step:
            if is_best and self.checkpoints.step == step:
                yield from self._disk_note(self.checkpoints.mark_best(step))
            yield from self._sample(progress)
            # What is learned from rewards has no loss that falls step by step; such a stage has warnings of its own.
            for kind, text in losing(self.state) if self.stage.period == 1 else ():
                yield from self._note(kind, text)
        self.timetable.evaluated(time.monotonic() - begin)

    def _sample(self, progress: float) -> Iterator[Event]:
        tokens = self.recipe.run.sample_tokens
        if tokens and (self.world.leads or self.sharded):
            said: list[str] = []
            text = self.stage.sample(self.policy, tokens, said.append)
            if not self.world.leads:
                return
            for sentence in said:
                yield from self._note("decoder", sentence)
            try:
                write_sample(self.folder, self.state.step, text)
            except InputError as error:
                yield from self._disk_note(str(error))
            yield Sampled(self.state.step, progress, text)

    def _save(self) -> Iterator[Event]:
        """Save a checkpoint of this step, unless there is one already or the weights are not finite."""
        self._unsaved = ""
        if self.state.step in (0, self.checkpoints.step):
            return
        broken = not all(bool(own(p).isfinite().all()) for p in self.model.parameters())
        if self.world.most([broken])[0]:
            return
        self.timetable.saved()
        problem = self._checkpoint()
        self._unsaved = problem if self.checkpoints.step != self.state.step else ""
        yield from self._disk_note(problem)

    def _checkpoint(self, *, resumable: bool = True) -> str:
        """Write a checkpoint, or begin to write it; return the outcome.

        A run can be resumed only from a checkpoint that holds the optimizer's state.
        """
        state = self.state
        state.seconds, state.losses = time.monotonic() - self.started, list(self.spikes.losses)
        texts = {"run.toml": self._settings, "environment.json": self._facts}
        optimizer = self.optimizer if resumable else None
        return self.checkpoints.save(state.step, self.model, self.stage.tokenizer, asdict(state), optimizer, texts)

    def _look_back(self, progress: float) -> Iterator[Event]:
        """Keep the weights as they are now, if it is time to; a run goes on without snapshots where they do not fit."""
        before, self.state.progress = self.state.progress, progress
        outcome = self.snapshots.take(before, progress, self.state.step, self.model, self.stage.tokenizer)
        yield from self._note("snapshots", outcome)

    def _save_last(self) -> Iterator[Event]:
        """Save the last checkpoint; if the disk has no room for it, save its weights alone, or use another folder.

        Raises:
            InputError: no folder has room for it.
        """
        yield from self._save()
        problem = self.checkpoints.settle() or self._unsaved
        while problem:
            if not (self._checkpoint(resumable=False) or self.checkpoints.settle()):
                alone = "The weights fitted without the optimizer's state, so the run cannot be resumed from them."
                yield from self._note("", f"{problem} {alone}")
                return
            folder = self.world.tell(str(self.ask_folder(problem) or "") if self.world.leads else "")
            if not folder:
                raise InputError(problem)
            self._write_to(Path(folder))
            problem = self.world.attempt(self._furnish) or self._checkpoint() or self.checkpoints.settle()

    def _furnish(self) -> None:
        """Make the folder that replaces the run's own a run folder, to hold the last checkpoint."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self.folder / "config.toml", self._settings)
        write_atomic(self.folder / "environment.json", self._facts)

    def _disk_note(self, problem: str) -> Iterator[Event]:
        """Note that a checkpoint could not be written. A disk that is full for a while does not end a run."""
        goes_on = "Training goes on, and the next checkpoint is tried as usual."
        yield from self._note("disk", problem and f"{problem} {goes_on}")

    def _left_out(self, step: Step) -> Iterator[Event]:
        """Log a step that did not move the weights, and report the first of several such steps in a row."""
        self.state.bad += 1
        batch = step.number - 1 + self.state.dropped
        self._record(left_out=batch, because=fault(step))
        if self.state.bad == 1:
            yield from self._note("", left_out(step, batch))

    def _go_back(self, step: Step) -> Iterator[Event]:
        """Go back to the last intact checkpoint, and continue from there with batches that were not used yet."""
        before = self.state
        yield from self._disk_note(self.checkpoints.settle())
        self.world.most([0.0])  # All processes wait here until the first process has written its checkpoint.
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

    def _watch(self, step: Step) -> Iterator[Event]:
        watched = self.stage.watch() if step.number % self.stage.period == 0 else Watch()
        if watched.metrics:
            self._record(**watched.metrics)
        for kind, text in watched.remarks:
            yield from self._note(kind, text)

    def _note(self, kind: str, text: str) -> Iterator[Event]:
        """Report and log a sentence, if there is one; a run does so only once for each kind that has a name."""
        if text and kind not in self.state.notes:
            self.state.notes += [kind] if kind else []
            self._record(note=text)
            yield Note(self.state.step, text)

    def _record(self, **values: Any) -> None:
        step, seconds = self.state.step, round(time.monotonic() - self.started, 3)
        self.metrics.add(step=step, seconds=seconds, tokens=step * self.stage.tokens_per_step, **values)

    def _end(self) -> Iterator[Event]:
        self._agree_to_stop()
        yield from self._note("snapshots", self.snapshots.settle())
        yield from self._save_last()
        if self.ended != "terminated":
            yield from self._evaluate(1.0, final=True)
        self.metrics.flush()
        known = summary(self)
        write_end(self, known)
        yield Finished(self.state.step, known)
