"""The way from a text to a model whose answers are liked, as one page: each stage's numbers, curves and answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from quoth.studio.charts import Markup, bar
from quoth.studio.drawings import paths_svg
from quoth.studio.page import Parts, hundredths, joined
from quoth.system.files import write_atomic
from quoth.system.words import duration

parts = Parts("rlhf.html")
TEXT = (
    "“Liked” is what the hidden taste says: a line with gentle words, in the form that was asked for. “Never asked "
    "before” are requests that no stage was trained on. “KL” is how many nats an answer is from what the finetuned "
    "model would write. “Best of 4” means that the reward model chooses the best of 4 answers of the finetuned model; "
    "learning must beat that."
)


def write_rlhf_report(folder: Path, record: Mapping[str, Any]) -> Path:
    """Write report.html from what rlhf.json holds.

    Raises:
        InputError: the folder may not be written.
    """
    effects = record["effects"]
    curves = {effect["stage"]: effect["curve"] for effect in effects if len(effect["curve"]) > 1}
    sections = [
        parts.render("stages", text=_text(record), number=record["judged"], items=joined(_rows(record))),
        parts.many("curve", (parts.render("drawing", drawing=drawing) for drawing in _drawings(curves))),
        parts.many("answers", (_said(effect) for effect in effects)),
    ]
    lede = f"{len(effects)} models, each of them made of the one before it or of the finetuned one."
    page = parts.page("From a text to ChatGPT", "each stage and its effect", lede, sections, "Made by quoth demo rlhf.")
    write_atomic(folder / "report.html", page)
    return folder / "report.html"


def _text(record: Mapping[str, Any]) -> str:
    if not (found := record["reward_model"]):
        return TEXT
    right, alike = found["accuracy"], found["accuracy_like_length"]
    even = "" if alike is None else f", and about {alike:.0%} of those whose answers are about as long"
    return f"{TEXT} The reward model agrees with the taste about {right:.0%} of comparisons that it never saw{even}."


def _rows(record: Mapping[str, Any]) -> Iterator[Markup]:
    for effect in record["effects"]:
        known = effect["known"]
        shares = {key: f"{known[key]:.0%}" for key in ("form", "line", "ended", "distinct")}
        yield _row(
            effect["stage"],
            known["score"],
            held=hundredths(effect["held_out"]["score"]),
            kl=f"{known['kl']:.1f}" if "kl" in known else "–",
            time="–" if effect["seconds"] is None else duration(effect["seconds"]),
            **shares,
        )
        if effect["stage"] == "finetuning":
            for n, score in record["best_of"].items():
                if int(n) > 1:
                    yield _row(f"best of {n}", score)


def _row(name: str, liked: float, **shown: str) -> Markup:
    empty = dict.fromkeys(("held", "form", "line", "ended", "distinct", "kl", "time"), "–")
    drawn = bar(max(0.0, min(1.0, liked)), f"liked {liked:.2f}")
    return parts.render("stage", name=name, bar=drawn, liked=hundredths(liked), **{**empty, **shown})


def _drawings(curves: Mapping[str, list[dict[str, float]]]) -> Iterator[Markup]:
    for key, title in (
        ("reward", "The reward that is learned from"),
        ("true_reward", "How much the answers are liked"),
    ):
        paths = {
            name: [(line["kl"], line[key]) for line in curve if key in line]
            for name, curve in curves.items()
            if key != "reward" or name.startswith("ppo")  # A rule has another unit.
        }
        if paths := {name: path for name, path in paths.items() if path}:
            yield Markup(paths_svg(title, "KL from the finetuned model, nats an answer", "", paths))


def _said(effect: Mapping[str, Any]) -> Markup:
    text = "\n".join(f"{asked:<18} → {' '.join(answer.split())}" for asked, answer in effect["shown"])
    return parts.render("said", name=effect["stage"], unit=f"liked {effect['known']['score']:.2f}", text=text)
