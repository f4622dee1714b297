"""`quoth train` trains a model on a text."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import console, print_json
from quoth.cli.settings import given, with_settings, words

if TYPE_CHECKING:
    from rich.console import Console

    from quoth.recipes.session import Session
    from quoth.system.world import World

ABOUT = """Train a GPT on a text. Settings that you do not give are chosen to suit the time.

Attributes:
    data: a named corpus (shakespeare, plays), or files, folders and zip archives of texts; shakespeare when left out.
    preset: a named set of settings: laptop, gpu, gpt2, lecture or nanogpt-cpu.
    config: a TOML file of settings, which override the preset's and are overridden by flags.
    out: the run's folder; runs/<date>-<preset>-<data> when left out.
    resume: a run to continue from its newest checkpoint.
    studio: opens the run in a browser while it trains, as `quoth studio` does, and until Ctrl-C afterwards.
    json: print one JSON object on stdout.
"""


def arguments_class() -> type:
    """The class of the command's arguments: its own, and a flag for every setting of a recipe."""
    data = tyro.conf.Positional[Annotated[list[str] | None, tyro.conf.arg(metavar="[DATA]...", help_behavior_hint="")]]
    own: list[tuple[str, Any, Any]] = [
        ("data", data, None),
        ("preset", Annotated[str, tyro.conf.arg(metavar="NAME")], "laptop"),
        ("config", words("FILE"), None),
        ("out", words("FOLDER"), None),
        ("resume", words("RUN"), None),
        ("studio", Annotated[bool, tyro.conf.arg(help_behavior_hint="")], False),
        ("json", Annotated[bool, tyro.conf.arg(help_behavior_hint="")], False),
    ]
    return with_settings("Train", ABOUT, own)


def main(arguments: list[str], started: float) -> int:
    a: Any = parse(arguments_class(), arguments, "train")
    a.data = ",".join(a.data or ()) or None
    screen = console(a.json)

    from quoth.recipes.start import start

    config = Path(a.config) if a.config else None

    def begin(world: World) -> Session:
        return start(a.preset, config, given(a), a.out, a.resume, started, world)

    return carry_out(begin, screen, a.json, a.studio)


def carry_out(begin: Callable[[World], Session], screen: Console, as_json: bool, studio: bool = False) -> int:
    """Carry out the session that `begin` makes, and show it; return the command's exit code."""
    from quoth.cli.progress import Progress
    from quoth.cli.studio import studio_beside
    from quoth.system.world import joined

    with joined() as world:
        screen.quiet = not world.leads
        session = begin(world)
        with ExitStack() as stack:
            shown = stack.enter_context(studio_beside(session.folder, screen)) if studio and world.leads else None
            with Progress(screen, session) as progress, interruptible(session):
                session.ask_folder = progress.ask_folder
                for event in session.events():
                    progress.show(event)
            if as_json and world.leads:
                print_json(progress.summary)
            if shown and shown.poll() is None and not session.ended:
                screen.print("The studio stays open; Ctrl-C ends it.")
                with suppress(KeyboardInterrupt):
                    shown.wait()
    return {"": 0, "interrupted": 130, "terminated": 143}[session.ended]


@contextmanager
def interruptible(session: Session) -> Iterator[None]:
    """Make Ctrl-C and SIGTERM end the run after the current step.

    After Ctrl-C the run evaluates once more and saves; after SIGTERM it only saves, to be quick. A repeated signal, or
    a signal before the first step, ends the run at once.
    """

    seen: list[int] = []

    def ask(number: int, frame: object) -> None:
        if not session.begun or number in seen:
            raise SystemExit(143) if number == signal.SIGTERM else KeyboardInterrupt
        seen.append(number)
        session.stop = "terminated" if signal.SIGTERM in seen else "interrupted"

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
