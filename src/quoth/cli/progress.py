"""A run as a person sees it: one living line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from quoth.cli.output import count, duration, is_live

if TYPE_CHECKING:
    from quoth.recipes.events import Event
    from quoth.recipes.session import Session

PLAIN_EVERY_SECONDS = 10.0
BAR_WIDTH = 20


class Progress:
    """Shows a session's events; `summary` is what the last one said."""

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
            self._say_now("compiling, which takes about 20 seconds the first time")
        elif (why := self.session.hardware.reasons["compile"]) != "as was asked":
            self.screen.print(f"torch.compile is off: {why}", style="yellow", markup=False)
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.live:
            self.live.stop()

    def show(self, event: Event) -> None:
        """Tell what happened."""
        getattr(self, f"_{event.kind}")(event)

    def _say_now(self, text: str) -> None:
        """Where the line lives, what it waits for; elsewhere a line of its own."""
        if self.live:
            self.live.update(Text(text, style="dim"))
        else:
            self.screen.print(text, style="dim")

    def _ready(self, event: Event) -> None:
        if event.text:
            self._say_now(event.text)

    def _step(self, event: Event) -> None:
        if self.session.stop:
            last = "saving" if self.session.stop == "terminated" else "the last evaluation and checkpoint"
            self._say_now(f"stopping: {last}; Ctrl-C again leaves it out")
        elif self.live:
            self.live.update(self._line(event))
        elif time.monotonic() >= self.next_plain:
            self.next_plain = time.monotonic() + PLAIN_EVERY_SECONDS
            self.screen.print(
                f"{self._at()}  step {event.step:<6}   training {event.loss:.4f}  {event.progress:4.0%}  "
                f"{count(event.tokens_per_second)} tokens/s"
            )

    def _line(self, event: Event) -> Table:
        """A bar, and as much beside it as the terminal has room for, the most wanted first."""
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

    def _evaluated(self, event: Event) -> None:
        assert event.evaluation is not None
        self.validation = event.evaluation.loss
        trained = "" if event.loss != event.loss else f"  training {event.loss:.4f}"
        self.screen.print(
            f"[bold]{self._at()}[/]  step {event.step:<6} validation {event.evaluation.loss:.4f}{trained}"
        )

    def _sampled(self, event: Event) -> None:
        if event.progress < 1:
            line = Text(" ".join(event.text.split()), style="dim italic")
            line.truncate(min(self.screen.width, 100) - 1, overflow="ellipsis")
            self.screen.print(line)

    def _note(self, event: Event) -> None:
        self.screen.print(event.text, style="yellow", markup=False)

    def _finished(self, event: Event) -> None:
        self.summary = s = event.summary
        if self.live:
            self.live.stop()
        folder = escape(s["folder"])
        name = escape(s["run"]) if s["folder"] == f"runs/{s['run']}" else folder
        how = "Done" if s["stopped"] == "finished" else "Stopped"
        self.screen.print(
            f"\n[bold green]{how}[/] after {duration(s['seconds'])}: {s['steps']:,} steps, "
            f"{count(s['tokens_per_second'])} tokens/s"
        )
        self.screen.print(
            f"[bold]{s['validation_loss']:.4f}[/] nats per token, {s['bits_per_byte']:.3f} bits per byte, "
            f"over the whole validation split; best at step {s['best_step']:,}"
        )
        self.screen.print(f"The run is in [bold]{folder}[/]; its report.html shows it. Let it write:")
        self.screen.print(f'  quoth sample {name} --prompt "..."')
        if s["stopped"] != "finished":
            self.screen.print(f"To go on:\n  quoth train --resume {name}")


def introduction(s: Session) -> list[tuple[str, str]]:
    """What is read, what learns, and how long on what."""
    m, r, t = s.recipe.model, s.recipe.run, s.corpus.tokenizer
    long = f"{r.minutes:g} minute{'s' * (r.minutes != 1)}" if r.minutes else f"{r.steps:,} steps"
    cores = f"{s.hardware.threads} thread{'s' * (s.hardware.threads > 1)}"
    if (processes := s.world.size) > 1:
        cores = f"{processes} processes of {cores}"
    gpus = f"{processes} GPUs" if processes > 1 else "the GPU"
    where = {"cpu": f"the CPU, {cores}", "mps": "the Apple GPU"}
    text = (
        f"{escape(s.corpus.name)}: {count(s.corpus.manifest['characters'])} characters; "
        f"{count(len(s.corpus.train))} tokens to learn from, {count(len(s.corpus.validation))} to be judged by"
    )
    model = (
        f"{m.family}: {count(s.model.parameters_count)} parameters, {m.layers} layer{'s' * (m.layers != 1)} of width "
        f"{m.width}, context {m.context}, vocabulary {m.vocabulary:,} ({t.name})"
    )
    run = (
        f"{long} on {where.get(s.hardware.device, gpus)} in {s.hardware.dtype}, "
        f"{r.batch * r.accumulate:,} windows of {m.context} tokens a step"
    )
    return [("text", text), ("model", model), ("run", run)]
