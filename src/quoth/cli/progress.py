"""A run as a person sees it: one living line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from quoth.cli.output import count, duration, is_live

if TYPE_CHECKING:
    from quoth.recipes.session import Event, Session

PLAIN_EVERY_SECONDS = 10.0


class Progress:
    """Shows a session's events; `summary` is what the last one said."""

    def __init__(self, screen: Console, session: Session) -> None:
        self.screen, self.session = screen, session
        self.summary: dict[str, Any] = {}
        self.validation: float | None = None
        self.live = Live(console=screen, refresh_per_second=4, transient=True) if is_live(screen) else None
        self.next_plain = time.monotonic() + PLAIN_EVERY_SECONDS

    def __enter__(self) -> Progress:
        r, s = self.session.recipe, self.session
        m = r.model
        what = f"{r.run.minutes:g} minutes" if r.run.minutes else f"{r.run.steps:,} steps"
        self.screen.print(
            f"[bold]{escape(s.corpus.name)}[/]: {count(s.corpus.manifest['characters'])} characters as "
            f"{count(len(s.corpus.train))} tokens of {m.vocabulary} {s.corpus.tokenizer.name.split(':')[0]}, "
            f"and {count(len(s.corpus.validation))} to be judged by"
        )
        self.screen.print(
            f"[bold]{m.family}[/]: {count(s.model.parameters_count)} parameters, {m.layers} layers of width {m.width}, "
            f"context {m.context}; {what}, {r.run.batch * r.run.accumulate} windows a step; "
            f"{s.hardware.device} in {s.hardware.dtype}, {s.hardware.threads} thread{'s' * (s.hardware.threads > 1)}"
        )
        if not s.hardware.compile:
            self.screen.print(f"torch.compile is off: {s.hardware.reasons['compile']}", style="yellow")
        elif not self.live:
            self.screen.print("compiling ...", style="dim")
        if self.live:
            self.live.start()
            self.live.update(Text("compiling: the first time takes about 20 seconds", style="dim"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.live:
            self.live.stop()

    def show(self, event: Event) -> None:
        """Tell what happened."""
        getattr(self, f"_{event.kind}")(event)

    def _ready(self, event: Event) -> None:
        if event.text and not self.live:
            self.screen.print(event.text, style="dim")

    def _step(self, event: Event) -> None:
        if self.live:
            self.live.update(self._line(event))
        elif time.monotonic() >= self.next_plain:
            self.next_plain = time.monotonic() + PLAIN_EVERY_SECONDS
            self.screen.print(
                f"step {event.step:>6}  {event.progress:4.0%}  loss {event.loss:.4f}  "
                f"{count(event.tokens_per_second)} tokens/s"
            )

    def _line(self, event: Event) -> Table:
        row = Table.grid(padding=(0, 2))
        left = self._seconds_left(event.progress)
        validation = f"validation {self.validation:.4f}" if self.validation is not None else ""
        row.add_row(
            ProgressBar(total=1.0, completed=event.progress, width=24),
            f"{duration(left)} left",
            f"step {event.step:,}",
            f"loss {event.loss:.4f}",
            validation,
            f"{count(event.tokens_per_second)} tokens/s",
        )
        return row

    def _seconds_left(self, progress: float) -> float:
        run, now = self.session.recipe.run, time.monotonic()
        if run.minutes:
            return max(0.0, self.session.started + 60 * run.minutes - now)
        return self.session.training_seconds * (1 - progress) / max(progress, 1e-6)

    def _evaluated(self, event: Event) -> None:
        assert event.evaluation is not None
        self.validation = event.evaluation.loss
        at = duration(time.monotonic() - self.session.started)
        trained = "" if event.loss != event.loss else f"  training {event.loss:.4f}"
        self.screen.print(f"[bold]{at:>10}[/]  step {event.step:<6} validation {event.evaluation.loss:.4f}{trained}")

    def _sampled(self, event: Event) -> None:
        if event.progress < 1:
            self.screen.print(Text(" ".join(event.text.split())[:100], style="dim italic"))

    def _note(self, event: Event) -> None:
        self.screen.print(event.text, style="yellow", markup=False)

    def _finished(self, event: Event) -> None:
        self.summary = s = event.summary
        if self.live:
            self.live.stop()
        how = "Stopped" if s["stopped"] == "interrupted" else "Done"
        self.screen.print(
            f"\n[bold green]{how}[/] after {duration(s['seconds'])} and {s['steps']:,} steps of "
            f"{count(s['tokens_per_second'])} tokens/s: validation loss [bold]{s['validation_loss']:.4f}[/] nats per token, "
            f"{s['bits_per_byte']:.3f} bits per byte, over the whole split"
        )
        folder = escape(s["folder"])
        self.screen.print(f"The run lies in [bold]{folder}[/]: open {folder}/report.html, or let it write:")
        self.screen.print(f"  quoth sample {folder} --prompt ...")
        if s["stopped"] == "interrupted":
            self.screen.print(f"  quoth train --resume {folder}   to go on")
