"""A run's folder as one page: what was trained, how it went, and what the model writes.

The markup is in the parts of report.html and page.html. This module makes the sentences and the tables.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from quoth.studio.charts import Axis, Markup, Plot, Show, bar, smooth, thin
from quoth.studio.page import Parts, exact, hundredths, joined
from quoth.studio.record import Fields, Reading, Record, finite, read_record, readings, step_of
from quoth.system.errors import InputError
from quoth.system.files import write_atomic
from quoth.system.words import count, duration, plural

parts = Parts("report.html")
ENDS = {
    "finished": ".",
    "interrupted": ". It was interrupted before its end.",
    "terminated": ". It was ended from outside before its end.",
    "unfinished": ". It has not finished, or was cut off: these are the numbers that it logged until then.",
}


def write_report(run: Path, published: Sequence[tuple[str, float]] = ()) -> Path:
    """Write report.html into a run's folder: one file that needs no other, no network and no JavaScript.

    The page says what the folder lacks, and what a crash has cut off.

    Args:
        run: the folder.
        published: results on the same data that the run's is compared with: each a name, and nats per character.

    Raises:
        InputError: there is no such folder, or it may not be written.
    """
    if not run.is_dir():
        raise InputError(f"There is no run folder {run}.")
    record = read_record(run)
    notes = [line for line in record.lines if "note" in line]
    sections = [
        parts.many("problems", (parts.render("item", text=text, when="") for text in record.problems)),
        parts.many("numbers", _numbers(record)),
        _curves(record),
        _comparison(record, published) if published else "",
        _samples(record),
        parts.many("notes", (parts.render("item", text=note["note"], when=_moment(note)) for note in notes)),
        parts.many("details", _details(record)),
    ]
    origin = "Made by quoth from the files of this run’s folder."
    page = parts.page(record.facts["run"], "report of a training run", _lede(record), sections, origin)
    write_atomic(run / "report.html", page)
    return run / "report.html"


def _lede(record: Record) -> str:
    facts, machine = record.facts, record.environment
    parameters, seconds, loss, bits = map(record.number, ("parameters", "seconds", "validation_loss", "bits_per_byte"))
    unit = {"characters": "character", "bytes": "byte"}.get(str(facts["tokenizer"]), "token")
    said = f"A GPT of {count(parameters)} parameters" if parameters else "A GPT"
    said += f" read {facts['data']}"
    said += "" if seconds is None else f" for {duration(seconds)}"
    if machine.get("device", "cpu") != "cpu":
        said += f" on {machine.get('gpu', machine['device'])}"
    elif isinstance(threads := machine.get("threads"), int):
        said += f" on {plural(threads, 'thread')}"
    if loss is not None:
        said += f" and predicts each next {unit} with {loss:.2f} nats of surprise"
        said += "" if bits is None else f" ({bits:.2f} bits per byte)"
    return said + ENDS.get(str(facts["stopped"]), f". It did not run to its end: {facts['stopped']}.")


def _numbers(record: Record) -> Iterator[Markup]:
    best, speed, loss = map(record.number, ("best_step", "tokens_per_second", "validation_loss"))
    rows: list[tuple[str, float | None, Show, str]] = [
        ("Validation loss", loss, hundredths, "nats per token"),
        ("Bits per byte", record.number("bits_per_byte"), hundredths, "of validation text"),
        ("Perplexity", None if loss is None else math.exp(min(loss, 700)), hundredths, "equally likely choices"),
        ("Training loss", record.number("train_loss"), hundredths, "nats per token"),
        ("Parameters", record.number("parameters"), count, "trained numbers"),
        ("Read", record.number("tokens"), count, "tokens"),
        ("Steps", record.number("steps"), "{:,.10g}".format, "" if best is None else f"the best was {best:,.0f}"),
        ("Time", record.number("seconds"), duration, "" if speed is None else f"{count(speed)} tokens a second"),
    ]
    for name, value, show, unit in rows:
        yield parts.render("number", name=name, value="–" if value is None else show(value), unit=unit)


def _curves(record: Record) -> Markup:
    loss, validation = readings(record.lines, "loss"), readings(record.lines, "validation_loss")
    rate, speed = readings(record.lines, "learning_rate_share"), readings(record.lines, "tokens_per_second")
    if not (every := [*loss, *validation, *rate, *speed]):
        return parts.render(
            "curves", charts=parts.render("missing", text="Nothing was logged, so there are no curves.")
        )
    begin = min(r.seconds for r in every)
    time = Axis(begin, max(begin + 0.1, *(r.seconds for r in every)))
    small = [
        _small_chart("Learning rate, share of its peak", time, rate, "{:.0%}".format) if rate else "",
        _small_chart("Speed, tokens per second", time, speed, count) if speed else "",
    ]
    large = parts.render("loss", chart=_loss_chart(time, loss, validation)) if loss or validation else ""
    return parts.render("curves", charts=joined([large, parts.many("pair", small)]))


def _small_chart(title: str, time: Axis, line: list[Reading], show: Show) -> Markup:
    plot = Plot(time, Axis(0, 1.05 * max(r.value for r in line) or 1), show)
    layers = [plot.line(thin(line, 400), "train"), *plot.strips(line, lambda r: (_moment(r._asdict()), show(r.value)))]
    said = f"From {show(line[0].value)} to {show(line[-1].value)}."
    return parts.render("small", title=title, chart=plot.drawn(title, said, layers))


def _loss_chart(time: Axis, loss: list[Reading], validation: list[Reading]) -> Markup:
    mean = smooth(loss)
    plot = Plot(time, Axis.around([r.value for r in (*loss, *validation)]), "{:g}".format, "nats per token")
    layers = [plot.line(thin(loss, 1200), "raw"), plot.line(thin(mean, 400), "train")]
    layers += [plot.line(validation, "validation"), *(plot.dot(r, "validation", 3) for r in thin(validation, 120))]
    layers += [plot.dot(min(validation, key=lambda r: r.value), "best", 6.5)] if validation else []
    ends = [(line[-1], name) for line, name in ((mean, "training"), (validation, "validation")) if line]
    # The higher end's label stands above it and the lower one's below, so they never meet.
    for drop, (end, name) in zip((-14, 24), sorted(ends, key=lambda e: -e[0].value), strict=False):
        layers.append(plot.label(end, f"{name} {end.value:.2f}", f"strong {name}", drop))

    def read_out(reading: Reading) -> tuple[str, str]:
        judged = max((v for v in validation if v.seconds <= reading.seconds), default=None)
        shown = [("training", reading if mean else None), ("validation", judged)]
        return _moment(reading._asdict()), ", ".join(f"{name} {r.value:.3f}" for name, r in shown if r)

    layers += plot.strips(mean or validation, read_out)
    return plot.drawn(
        "Loss over time", " ".join(f"The {name} loss ends at {end.value:.2f}." for end, name in ends), layers
    )


def _comparison(record: Record, published: Sequence[tuple[str, float]]) -> Markup:
    own, tokens = record.number("validation_loss"), record.facts["tokenizer"]
    same = tokens == "characters"
    text = "Nats per token, lower is better."
    if not same:
        text += f" The published numbers are for characters, and this run’s tokens are not characters but {tokens}, "
        text += "so its number cannot be compared with theirs, and has no bar."
    rows = sorted((value, name, "published") for name, value in published)
    rows += [] if own is None else [(own, "This run", "ours")]
    items, longest = [], max(value for value, *_ in rows)
    for value, name, kind in sorted(rows) if same else rows:
        ours, shown = kind == "ours", exact(value)
        drawn = bar(value / longest, f"{shown} nats per token") if same or not ours else ""
        versus = "" if own is None or ours else _versus(own, value) if same else "not comparable"
        items.append(parts.render("compared", kind=kind, name=name, bar=drawn, value=shown, versus=versus))
    return parts.render("comparison", text=text, items=joined(items))


def _versus(own: float, other: float) -> str:
    return "equal" if own == other else f"{abs(own - other):.2g} {'lower' if own < other else 'higher'}"


def _samples(record: Record) -> Markup:
    if not record.samples:
        return Markup()
    judged = {r.step: f"validation loss {r.value:.2f}" for r in readings(record.lines, "validation_loss")}
    items = []
    for number, (stem, text) in enumerate(record.samples, start=1):
        step = step_of(stem)
        title = f"Step {step:,.0f}" if step < math.inf else stem.replace("-", " ").capitalize()
        part = "sample" if number < len(record.samples) else "last"
        items.append(parts.render(part, title=title, unit=judged.get(step, ""), text=text))
    return parts.render("samples", earlier=joined(items[:-1]), last=items[-1])


def _details(record: Record) -> Iterator[Markup]:
    yield parts.many("fold", _tables("config.toml", record.config), title="All settings")
    yield parts.many("fold", _tables("environment.json", record.environment), title="The machine and the software")
    judged = thin(readings(record.lines, "validation_loss"), 200)
    losses = {f"step {r.step:,.0f}, after {duration(r.seconds)}": f"{r.value:.4f}" for r in judged}
    yield parts.many("fold", [_table("validation loss, nats per token", losses)], title="Every evaluation")


def _tables(name: str, values: Fields) -> Iterator[Markup]:
    inner = {key: value for key, value in values.items() if isinstance(value, dict)}
    yield _table(name, {key: value for key, value in values.items() if key not in inner})
    yield from (_table(f"[{key}]", value) for key, value in inner.items())


def _table(caption: str, values: Fields) -> Markup:
    shown = {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False, default=str) for k, v in values.items()}
    return parts.many("table", (parts.render("row", name=k, value=v) for k, v in shown.items()), caption=caption)


def _moment(line: Fields) -> str:
    step, seconds = finite(line.get("step")), finite(line.get("seconds"))
    said = ["" if step is None else f"step {step:,.0f}", "" if seconds is None else duration(seconds)]
    return " · ".join(filter(None, said))
