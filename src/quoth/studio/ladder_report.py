"""The ladder's climb as one page: every rung's numbers beside the lecture's, and what each writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quoth.studio.charts import Markup, bar
from quoth.studio.page import Parts, exact, joined
from quoth.system.files import write_atomic
from quoth.system.words import count, duration, plural

parts = Parts("ladder.html")
FILMED = (
    "The small rungs are trained as the lecture’s film shows: scores are divided by the root of the width, not of the "
    "head size, weights begin as PyTorch makes them, and “sampled” is the lecture’s estimate, the mean over 200 random "
    "batches of the validation split. Unlike in the lecture, windows are shuffled, so that each is seen once before "
    "any is seen twice, and weight decay acts on nothing but the weights inside blocks. “Corrected” is the exact "
    "validation loss of the same rung with scores over the root of the head size and, where there are norms, small "
    "weights."
)
CORRECTED = (
    "Two things are not as in the lecture’s film: scores are divided by the root of the head size, and where there are "
    "norms weights begin small, so that the first loss is that of knowing nothing. With --faithful the rungs are "
    "trained as the film shows."
)


def write_ladder_report(folder: Path, climbed: dict[str, Any]) -> Path:
    """Write report.html from what ladder.json holds.

    Raises:
        InputError: the folder may not be written.
    """
    rungs, seeds = climbed["rungs"], len(climbed["seeds"])
    lede = f"{plural(len(rungs), 'model')} of {climbed['data']}, each one idea further than the one before"
    lede += f", {seeds} times over." if seeds > 1 else "."
    text = "Losses are in nats per token, exact over the whole validation split and as much of the training split."
    text += f" {FILMED if climbed['faithful'] else CORRECTED}"
    caption = f"Means of {seeds} seeds; the spread is from the best to the worst; bars start at zero"
    table = parts.render(
        "climbed",
        text=text,
        caption=caption if seeds > 1 else "One seed; bars start at zero",
        more=parts.render("more") if climbed["faithful"] else "",
        items=Markup("\n".join(_rows(rungs, faithful=climbed["faithful"]))),
    )
    written = parts.many("rungs", (_written(rung) for rung in rungs))
    origin = "Made by quoth ladder from ladder.json beside it."
    page = parts.page("The ladder", "the lecture, rung by rung", lede, [table, written], origin)
    write_atomic(folder / "report.html", page)
    return folder / "report.html"


def _rows(rungs: list[dict[str, Any]], *, faithful: bool) -> Iterator[Markup]:
    worst = max(rung["validation_loss"] for rung in rungs)
    for rung in rungs:
        loss, others = rung["validation_loss"], (rung["sampled_validation_loss"], rung["corrected_loss"])
        shown = ("–" if other is None else f"{other:.3f}" for other in others)
        more = joined(parts.render("cell", text=text) for text in shown) if faithful else ""
        yield parts.render(
            "rung",
            name=rung["name"],
            bar=bar(loss / worst, f"{loss:.3f} nats per token"),
            parameters=count(rung["parameters"]),
            steps=f"{rung['steps']:,.0f}",
            time=duration(rung["seconds"]),
            train=f"{rung['train_loss']:.3f}",
            validation=f"{loss:.3f}",
            spread=f"{rung['spread']:.3f}" if len(rung["seeds"]) > 1 else "–",
            more=more,
            lecture="–" if rung["lecture_loss"] is None else exact(rung["lecture_loss"]),
        )


def _written(rung: dict[str, Any]) -> Markup:
    unit = f"validation loss {rung['validation_loss']:.3f}, from {rung['initial_loss']:.2f} before training"
    return parts.render("written", name=rung["name"], unit=unit, changed=rung["changed"], text=rung["sample"])
