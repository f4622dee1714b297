"""`quoth ladder`: the lecture, rung by rung."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import columns, console, is_live, print_json
from quoth.cli.settings import words
from quoth.system.words import duration

if TYPE_CHECKING:
    from rich.console import Console

    from quoth.recipes.climb import Ladder, Outcome

MOST_SEEDS = 1000


@dataclass
class Arguments:
    """Climb the lecture's ladder, from a bigram to a GPT: each rung is trained, judged and set beside the lecture's.

    Attributes:
        data: a named corpus (shakespeare, plays), a file, folder or zip archive of texts; read in characters.
        rung: the one rung to train: bigram, embedding, one-head, many-heads, think, residual, norm or scaled; all of
            them when left out.
        faithful: whether each small rung is trained as the lecture's film shows it, with the film's scale of scores,
            first weights and sampled loss; the loss of the corrected rung is shown beside it.
        seeds: how many times each rung is trained, each time with the next seed; at most 1,000.
        seed: the number that decides the first training's random draws.
        steps: how many steps each small rung is trained; 0 for as many as in the lecture, which are 3,000 for the
            bigram and 5,000 for the others.
        minutes: how many minutes the scaled rung is trained.
        out: the folder for the report; runs/<date>-ladder-<data> when left out.
        json: print one JSON object on stdout.
    """

    data: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="[DATA]")]] = "shakespeare"
    rung: words("NAME") = None  # type: ignore[valid-type]
    faithful: bool = False
    seeds: int = 3
    seed: int = 1337
    steps: int = 0
    minutes: float = 3.0
    out: words("FOLDER") = None  # type: ignore[valid-type]
    json: bool = False


def main(arguments: list[str], started: float) -> None:
    a = parse(Arguments, arguments, "ladder")

    from quoth.recipes.climb import Ladder, record, rungs_named, save
    from quoth.system.errors import InputError
    from quoth.text.corpus import corpus
    from quoth.train.run import new_run

    rungs = rungs_named(a.rung)
    if not 1 <= a.seeds <= MOST_SEEDS:
        raise InputError(f"seeds must lie in [1, {MOST_SEEDS:,}], not {a.seeds}.")
    if not a.minutes > 0 or a.steps < 0:
        raise InputError("minutes must be above 0, and steps 0 or more.")
    if not 0 <= a.seed <= 2**32 - a.seeds:
        raise InputError(f"seed must lie in [0, 2³² - seeds], so that every seed is below 2³², but it is {a.seed}.")
    text = corpus(a.data)
    folder = new_run(a.out, "ladder", text.name)
    ladder = Ladder(a.data, folder, rungs, range(a.seed, a.seed + a.seeds), a.faithful, a.steps, a.minutes)
    screen = console(a.json)
    for outcomes in climb(ladder, screen):
        climbed = record(ladder, text.name, outcomes)
        report = save(folder, climbed)
    if a.json:
        print_json({**climbed, "folder": str(folder), "seconds": round(time.monotonic() - started, 2)})
        return
    screen.print()
    for line in table(climbed):
        screen.print(line, markup=False)
    screen.print(
        f"\nin {duration(time.monotonic() - started)}; the report, with what each writes: {report}", markup=False
    )


def climb(ladder: Ladder, screen: Console) -> Iterator[dict[tuple[str, int], Outcome]]:
    """Climb with a line for each seed of a rung; on a terminal another one lives meanwhile.

    Yields all outcomes so far whenever a rung is done, so that an interrupted climb keeps those.
    """
    outcomes: dict[tuple[str, int], Outcome] = {}
    total = len(ladder.rungs) * len(ladder.seeds)
    with screen.status("climbing", spinner="line") if is_live(screen) else nullcontext() as live:
        for name, seed, outcome in ladder.climb():
            outcomes[name, seed] = outcome
            took = duration(outcome.seconds)
            screen.print(f"{name:<11} seed {seed}   validation {outcome.validation_loss:.3f}   {took}", markup=False)
            if live:
                live.update(f"climbing: {len(outcomes)} of {total}")
            if seed == ladder.seeds[-1]:
                yield outcomes


def table(climbed: dict[str, Any]) -> Iterator[str]:
    """The rungs under each other, as the report has them."""
    head = ["rung", "parameters", "steps", "time", "training", "validation", "±", "lecture"]
    rows = [[*head[:6], *(["sampled", "corrected"] if climbed["faithful"] else []), *head[6:]]]
    for rung in climbed["rungs"]:
        more, lecture = (rung["sampled_validation_loss"], rung["corrected_loss"]), rung["lecture_loss"]
        row = [rung["name"], f"{rung['parameters']:,}", f"{rung['steps']:,.0f}", duration(rung["seconds"])]
        row += [f"{rung['train_loss']:.3f}", f"{rung['validation_loss']:.3f}"]
        row += ["–" if loss is None else f"{loss:.3f}" for loss in more] if climbed["faithful"] else []
        row.append(f"{rung['spread'] / 2:.3f}" if len(rung["seeds"]) > 1 else "–")
        rows.append([*row, "–" if lecture is None else f"{lecture:g}"])
    yield from columns(rows, set(range(1, len(rows[0]))))
