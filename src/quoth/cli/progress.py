"""Show a run to a person: one line that is updated on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from quoth.cli.output import is_live
from quoth.recipes.events import Evaluated, Event, Finished, Note, Ready, Sampled, Trained
from quoth.system.words import count, duration
from quoth.train.compile import last_compile

if TYPE_CHECKING:
    from quoth.recipes.session import Session

PLAIN_EVERY_SECONDS = 10.0
BAR_WIDTH = 20


class Progress:
    """Shows a session's events; `summary` is the run's summary, from the last event."""

    def __init__(self, screen: Console, session: Session) -> None:
        self.screen, self.session = screen, session
        self.summary: dict[str, Any] = {}
        self.validation: float | None = None
        self.live = Live(console=screen, refresh_per_second=4, transient=True) if is_live(screen) else None
        self.next_plain = time.monotonic() + PLAIN_EVERY_SECONDS

    def __enter__(self) -> Progress:
        facts = Table.grid(padding=(0, 2))
        for name, text in introduction(self.session):
            facts.add_row(f"[bold]{name}[/]", text)
            if not self.screen.is_terminal:
                self.screen.print(f"[bold]{name:<6}[/] {text}")
        if self.screen.is_terminal:
            self.screen.print(facts)
        if self.session.hardware.compile:
            took = last_compile().get("seconds")
            self._say_now("compiling" + (f"; the last time that took {duration(took)} here" if took else ""))
        elif (why := self.session.hardware.reasons["compile"]) != "as was asked":
            self.screen.print(f"torch.compile is off: {why}", style="yellow", markup=False)
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.live:
            self.live.stop()

    def show(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Ready():
                self._ready(event)
            case Trained():
                self._trained(event)
            case Evaluated():
                self._evaluated(event)
            case Sampled():
                self._sampled(event)
            case Note(_, text):
                self.screen.print(text, style="yellow", markup=False)
            case Finished(_, summary):
                self._finished(dict(summary))

    def ask_folder(self, problem: str) -> Path | None:
        """Ask on a terminal for another folder for a checkpoint that could not be written; None if none is given."""
        if not sys.stdin.isatty() or not self.screen.is_terminal:
            return None
        if self.live:
            self.live.stop()
        self.screen.print(problem, style="yellow", markup=False)
        given = self.screen.input("Another folder to save the model in (without one the model is lost): ").strip()
        return Path(given).expanduser() if given else None

    def _say_now(self, text: str) -> None:
        """Show what the run is doing: in the updated line on a terminal, elsewhere in a line of its own."""
        if self.live:
            self.live.update(Text(text, style="dim"))
        else:
            self.screen.print(text, style="dim")

    def _ready(self, event: Ready) -> None:
        if event.compiled:
            self._say_now(f"{event.seconds:.1f} s to compile")

    def _trained(self, event: Trained) -> None:
        if self.session.stop:
            last = "saving" if self.session.stop == "terminated" else "the last evaluation and checkpoint"
            self._say_now(f"stopping: {last}; Ctrl-C again skips this")
        elif self.live:
            self.live.update(self._line(event))
        elif time.monotonic() >= self.next_plain:
            self.next_plain = time.monotonic() + PLAIN_EVERY_SECONDS
            self.screen.print(
                f"{self._at()}  step {event.step:<6}   training {event.loss:.4f}  {event.progress:4.0%}  "
                f"{count(event.tokens_per_second)} tokens/s"
            )

    def _line(self, event: Trained) -> Table:
        """A progress bar, and beside it as many facts as the terminal has room for, the most important first."""
        said = [
            f"{duration(self._seconds_left(event.progress))} left",
            f"training {event.loss:.3f}",
            "" if self.validation is None else f"validation {self.validation:.3f}",
            f"step {event.step:,}",
            f"{count(event.tokens_per_second)} tokens/s",
        ]
        row, room = Table.grid(padding=(0, 2)), self.screen.width - BAR_WIDTH - 2
        fitting = []
        for text in filter(None, said):
            if cell_len(text) + 2 <= room:
                fitting.append(text)
                room -= cell_len(text) + 2
        row.add_row(ProgressBar(total=1.0, completed=event.progress, width=BAR_WIDTH), *fitting)
        return row

    def _seconds_left(self, progress: float) -> float:
        run, now = self.session.recipe.run, time.monotonic()
        if run.minutes:
            return max(0.0, self.session.started + 60 * run.minutes - now)
        return self.session.state.training_seconds * (1 - progress) / max(progress, 1e-6)

    def _at(self) -> str:
        return f"{duration(time.monotonic() - self.session.started):>11}"

    def _evaluated(self, event: Evaluated) -> None:
        self.validation = event.judgement.loss
        trained = "" if event.train_loss is None else f"  training {event.train_loss:.4f}"
        self.screen.print(f"[bold]{self._at()}[/]  step {event.step:<6} validation {self.validation:.4f}{trained}")

    def _sampled(self, event: Sampled) -> None:
        if event.progress < 1:
            line = Text(" ".join(event.text.split()), style="dim italic")
            line.truncate(min(self.screen.width, 100) - 1, overflow="ellipsis")
            self.screen.print(line)

    def _finished(self, s: dict[str, Any]) -> None:
        self.summary = s
        if self.live:
            self.live.stop()
        folder = escape(s["folder"])
        name = escape(s["run"]) if s["folder"] == f"runs/{s['run']}" else folder
        how = "Done" if s["stopped"] == "finished" else "Stopped"
        self.screen.print(
            f"\n[bold green]{how}[/] after {duration(s['seconds'])}: {s['steps']:,} steps, "
            f"{count(s['tokens_per_second'])} tokens/s"
        )
        if s["validation_loss"] is not None:
            bits = f" ({s['bits_per_byte']:.3f} bits per byte)" if "bits_per_byte" in s else ""
            best = f"best at step {s['best_step']:,}"
            if not s["best_step"]:
                best = "as it began: no evaluation was better, and the run stands for its last step"
            self.screen.print(f"[bold]{s['validation_loss']:.4f}[/] {self.session.stage.loss_is}{bits}; {best}")
        self.screen.print(f"The run is in [bold]{folder}[/]; its report.html shows it. Try it:")
        self.screen.print(f"  {self.session.stage.try_it.format(name)}")
        if s["stopped"] != "finished":
            self.screen.print(f"To go on:\n  quoth train --resume {name}")


def introduction(s: Session) -> list[tuple[str, str]]:
    """The lines that introduce a run: its text, its model, and how long it trains on what hardware."""
    m, r, t = s.recipe.model, s.recipe.run, s.stage.tokenizer
    long = f"{r.minutes:g} minute{'s' * (r.minutes != 1)}" if r.minutes else f"{r.steps:,} steps"
    cores = f"{s.hardware.threads} thread{'s' * (s.hardware.threads > 1)}"
    if (processes := s.world.size) > 1:
        cores = f"{processes} processes of {cores}"
    gpus = f"{processes} GPUs" if processes > 1 else "the GPU"
    where = {"cpu": f"the CPU, {cores}", "mps": "the Apple GPU"}
    model = (
        f"{m.family}: {count(s.policy.parameters_count)} parameters, {m.layers} layer{'s' * (m.layers != 1)} of width "
        f"{m.width}, context {m.context}, vocabulary {m.vocabulary:,} ({t.name})"
    )
    run = f"{long} on {where.get(s.hardware.device, gpus)} in {s.hardware.dtype}, {s.stage.per_step} a step"
    return [("text", escape(s.stage.about)), ("model", model), ("run", run)]
