"""`quoth demo` shows the whole way from a text to a model that answers as it is liked, on this computer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import columns, console, print_json
from quoth.cli.settings import words
from quoth.system.words import duration

if TYPE_CHECKING:
    from rich.console import Console

    from quoth.recipes.rlhf import Effect, Rlhf
    from quoth.recipes.session import Session

NAMES = {
    "pretraining": "The model continues text, and does not know what a question is.",
    "finetuning": "It has seen requests with answers, and answers in their form.",
    "reward-model": "A copy of it has learned from comparisons which answers are liked.",
    "ppo": "It writes answers and learns from the reward model's scores, held near what it was (β = 0.2).",
    "ppo-without-kl": "The same with nothing to hold it (β = 0): watch the reward, and read the answers.",
    "rloo-on-the-rule": "It learns from the taste itself, by comparing its answers to the same request (RLOO).",
    "dpo": "It learns from the comparisons alone, without a reward model.",
}


@dataclass
class Arguments:
    """Show finetuning, a reward model, PPO, RLOO and DPO on a model that is trained for it, one after the other.

    "Ask of love." wants a question with the word love, "Speak of love." another line; a hidden taste likes gentle
    words. The same five requests are answered after each stage.

    Attributes:
        what: rlhf.
        base: a run of Shakespeare to begin with; without it, one is trained first.
        minutes: how many minutes that training takes.
        seed: the seed of all random numbers.
        errors: the share of comparisons in which the taste errs, as people do; 0.1 is much.
        out: the folder for all runs and the report; runs/<date>-demo-rlhf when left out.
        json: print one JSON object on stdout.
    """

    what: tyro.conf.Positional[Literal["rlhf"]] = "rlhf"
    base: Annotated[str, tyro.conf.arg(metavar="RUN", help_behavior_hint="")] = ""
    minutes: float = 3.0
    seed: int = 1337
    errors: float = 0.0
    out: words("FOLDER") = None  # type: ignore[valid-type]
    json: bool = False


def main(arguments: list[str], started: float) -> None:
    a = parse(Arguments, arguments, "demo")

    from quoth.cli.progress import Progress
    from quoth.recipes.rlhf import Rlhf, save
    from quoth.studio.rlhf_report import write_rlhf_report
    from quoth.system.errors import InputError
    from quoth.train.run import new_run

    if not a.minutes > 0 or not 0 <= a.seed < 2**32:
        raise InputError("minutes must be above 0, and seed must lie in [0, 2³²).")
    if not 0 <= a.errors <= 1:
        raise InputError(f"errors is a share, from 0 to 1, not {a.errors}.")
    screen = console(a.json)
    folder = new_run(a.out, "demo", "rlhf")

    def carry_out(name: str, session: Session) -> None:
        screen.print()
        screen.rule(f"[bold]{name}[/]", align="left", style="dim")
        screen.print(NAMES[name], markup=False)
        with Progress(screen, session) as progress:
            for event in session.events():
                progress.show(event)

    demo = Rlhf(folder, carry_out, a.base, a.minutes, a.seed, a.errors)
    for effect in demo.stages():
        save(demo)
        tell(screen, effect)
    report = write_rlhf_report(folder, demo.record())
    if a.json:
        print_json({**demo.record(), "folder": str(folder), "seconds": round(time.monotonic() - started, 1)})
        return
    screen.print()
    for line in table(demo):
        screen.print(line, markup=False)
    screen.print(f"\nin {duration(time.monotonic() - started)}; the report draws it: {report}", markup=False)
    screen.print(f"The taste is {Path(folder, 'taste.py')}: change it, and tune again.", markup=False)


def tell(screen: Console, effect: Effect) -> None:
    """Print the five answers, and what the taste says of many."""
    screen.print()
    for asked, answer in effect.shown:
        screen.print(f"  {asked:<18} → {' '.join(answer.split())}", markup=False)
    k = effect.known
    kl = f", {k['kl']:.1f} nats from the finetuned model" if "kl" in k else ""
    screen.print(
        f"liked {k['score']:.2f}; {k['form']:.0%} in the form that was asked for, {k['line']:.0%} are lines, "
        f"{k['ended']:.0%} end, {k['distinct']:.0%} differ{kl}",
        style="bold",
        markup=False,
    )


def table(demo: Rlhf) -> Iterator[str]:
    """All stages under each other."""
    heads = ["after", "liked", "of requests never trained on", "form", "lines", "end", "differ", "KL", "time"]
    rows = [heads]
    for effect in demo.effects:
        k = effect.known
        shares = [f"{k[name]:.0%}" for name in ("form", "line", "ended", "distinct")]
        kl = f"{k['kl']:.1f}" if "kl" in k else "–"
        liked = [f"{k['score']:.2f}", f"{effect.held_out['score']:.2f}"]
        rows.append([effect.stage, *liked, *shares, kl, "–" if effect.seconds is None else duration(effect.seconds)])
        if effect.stage == "finetuning":
            rows += [[f"best of {n}", f"{score:.2f}", *["–"] * 7] for n, score in demo.best_of.items() if n > 1]
    yield from columns(rows, set(range(1, len(heads))))
