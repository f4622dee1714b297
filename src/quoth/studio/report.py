"""A run's folder as one page: what was trained, how it went, and what the model writes.

The markup lies in report.html, in parts, and the style in report.css; made here are the sentences and the drawings.
"""

from __future__ import annotations

import html
import json
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import accumulate, pairwise
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from quoth.system.errors import InputError
from quoth.system.files import write_atomic

Fields = dict[str, Any]
Show = Callable[[float], str]
SAMPLE_CHARACTERS = 6000
STRIPS = 90  # How many places along a chart answer to a pointer.
ENDS = {
    "finished": ".",
    "interrupted": ". It was interrupted before its end.",
    "unfinished": ". It has not finished, or was cut off: these are the numbers that it logged until then.",
}


def write_report(run: Path, published: Sequence[tuple[str, float]] = ()) -> Path:
    """Write report.html into a run's folder: one file that needs no other, no network and no JavaScript.

    What the folder lacks, or what a crash cut off, the page says. `published` are results on the same data to stand
    beside, as (name, nats per character).

    Raises:
        InputError: there is no such folder, or it may not be written.
    """
    if not run.is_dir():
        raise InputError(f"There is no run folder {run}.")
    record = read_record(run)
    notes = [line for line in record.lines if "note" in line]
    page = _render(
        "page",
        name=record.facts["run"],
        style=Markup(_package_file("report.css")),
        lede=_lede(record),
        problems=_list("problems", (_render("item", text=text, when="") for text in record.problems)),
        numbers=_list("numbers", _numbers(record)),
        curves=_curves(record),
        comparison=_comparison(record, published) if published else "",
        samples=_samples(record),
        notes=_list("notes", (_render("item", text=note["note"], when=_moment(note)) for note in notes)),
        details=_list("details", _details(record)),
    )
    write_atomic(run / "report.html", page)
    return run / "report.html"


class Reading(NamedTuple):
    """One logged value and when it was."""

    seconds: float
    step: float
    value: float


@dataclass(frozen=True)
class Record:
    """A run as far as its folder tells.

    `facts` are the summary's, else what was logged; `problems` says in sentences what is missing.
    """

    config: Fields
    environment: Fields
    facts: Fields
    lines: list[Fields]
    samples: list[tuple[str, str]]
    problems: list[str]

    def number(self, key: str) -> float | None:
        """A fact that is a finite number."""
        return _finite(self.facts.get(key))


def read_record(run: Path) -> Record:
    """Read what there is of a run's folder; nothing that is missing or damaged stops it."""
    problems: list[str] = []
    config = _parsed(run / "config.toml", tomllib.loads, problems)
    lines = list(_one_clock(_json_lines(run / "metrics.jsonl", problems)))
    samples = list(_read_samples(run / "samples", problems))
    environment = _parsed(run / "environment.json", json.loads, problems)
    summary = _parsed(run / "summary.json", json.loads, problems)
    if bad := sum("loss" in line and _finite(line["loss"]) is None for line in lines):
        problems.append(f"The loss is not a finite number on {_plural(bad, 'line')}, which the curve leaves out.")
    known: Fields = {"run": run.resolve().name, "data": "its text", "tokenizer": "characters", "stopped": "unfinished"}
    data = config.get("data")
    facts = known | (data if isinstance(data, dict) else {}) | _logged(lines) | summary
    # The summary's time is that of the last sitting; a run that was resumed has taken longer.
    times = [_finite(summary.get("seconds")), *(_finite(line.get("seconds")) for line in lines)]
    facts["seconds"] = max((t for t in times if t is not None), default=None)
    return Record(config, environment, facts, lines, samples, problems)


def _logged(lines: list[Fields]) -> Fields:
    """What the lines tell of a run that has no summary: the last values, and the best evaluation's."""
    last: Fields = {}
    for line in lines:
        last |= line
    facts = {key: last.get(key) for key in ("tokens", "tokens_per_second")}
    facts |= {"steps": last.get("step"), "train_loss": last.get("loss")}
    if judged := readings(lines, "validation_loss"):
        best = min(judged, key=lambda r: r.value)
        bits = {r.step: r.value for r in readings(lines, "bits_per_byte")}
        facts |= {"validation_loss": best.value, "best_step": best.step, "bits_per_byte": bits.get(best.step)}
    return facts


def readings(lines: list[Fields], key: str) -> list[Reading]:
    """The finite values of `key` by step; a step done again after a resume counts as it went last."""
    by_step = {}
    for line in lines:
        seconds, step, value = (_finite(line.get(k)) for k in ("seconds", "step", key))
        if seconds is not None and step is not None and value is not None:
            by_step[step] = Reading(seconds, step, value)
    return [by_step[step] for step in sorted(by_step)]


def _one_clock(lines: Iterable[Fields]) -> Iterator[Fields]:
    """A resumed run's clock begins anew: let it go on from where it stood."""
    before = past = 0.0
    for line in lines:
        if (seconds := _finite(line.get("seconds"))) is not None:
            past += before if seconds < before else 0.0
            before = seconds
            line["seconds"] = past + seconds
        yield line


def _parsed(path: Path, parse: Callable[[str], Any], problems: list[str]) -> Fields:
    try:
        value = parse(path.read_text(encoding="utf-8", errors="replace"))
        if isinstance(value, dict):
            return value
        problems.append(f"{path.name} is damaged: it does not hold named values.")
    except FileNotFoundError:
        problems.append(f"{path.name} is not there.")
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"{path.name} cannot be read: {error}.")
    return {}


def _text(path: Path, problems: list[str]) -> str:
    return str(_parsed(path, lambda text: {"text": text}, problems).get("text", ""))


def _json_lines(path: Path, problems: list[str]) -> Iterator[Fields]:
    bad = 0
    for line in filter(str.strip, _text(path, problems).split("\n")):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            yield value
        else:
            bad += 1
    if bad:
        problems.append(f"{_plural(bad, 'line')} of {path.name} cannot be read; a crash can cut the last one off.")


def _read_samples(folder: Path, problems: list[str]) -> Iterator[tuple[str, str]]:
    paths = sorted(folder.glob("*.txt"), key=lambda path: (_step_of(path.stem), path.name))
    if not paths:
        problems.append("There are no samples.")
    for path in paths:
        text = _text(path, problems)
        yield path.stem, text if len(text) <= SAMPLE_CHARACTERS else text[:SAMPLE_CHARACTERS] + "…"


def _step_of(stem: str) -> float:
    return float(found[1]) if (found := re.match(r"step-(\d{1,15})", stem)) else math.inf


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 else None  # An int may be too large for a float, and NaN is not less.


def _lede(record: Record) -> str:
    facts, machine = record.facts, record.environment
    parameters, seconds, loss, bits = map(record.number, ("parameters", "seconds", "validation_loss", "bits_per_byte"))
    unit = {"characters": "character", "bytes": "byte"}.get(facts["tokenizer"], "token")
    said = f"A GPT of {_short(parameters)} parameters" if parameters else "A GPT"
    said += f" read {facts['data']}"
    said += "" if seconds is None else f" for {_duration(seconds)}"
    if machine.get("device", "cpu") != "cpu":
        said += f" on {machine.get('gpu', machine['device'])}"
    elif isinstance(threads := machine.get("threads"), int):
        said += f" on {_plural(threads, 'thread')}"
    if loss is not None:
        said += f" and predicts each next {unit} with {loss:.2f} nats of surprise"
        said += "" if bits is None else f" ({bits:.2f} bits per byte)"
    return said + ENDS.get(str(facts["stopped"]), f". It did not run to its end: {facts['stopped']}.")


def _numbers(record: Record) -> Iterator[Markup]:
    best, speed, loss = map(record.number, ("best_step", "tokens_per_second", "validation_loss"))
    rows: list[tuple[str, float | None, Show, str]] = [
        ("Validation loss", loss, _hundredths, "nats per token"),
        ("Bits per byte", record.number("bits_per_byte"), _hundredths, "of validation text"),
        ("Perplexity", None if loss is None else math.exp(min(loss, 700)), _hundredths, "equally likely choices"),
        ("Training loss", record.number("train_loss"), _hundredths, "nats per token"),
        ("Parameters", record.number("parameters"), _short, "trained numbers"),
        ("Read", record.number("tokens"), _short, "tokens"),
        ("Steps", record.number("steps"), _short, "" if best is None else f"the best was {best:,.0f}"),
        ("Time", record.number("seconds"), _duration, "" if speed is None else f"{_short(speed)} tokens a second"),
    ]
    for name, value, show, unit in rows:
        yield _render("number", name=name, value="–" if value is None else show(value), unit=unit)


def _curves(record: Record) -> Markup:
    loss, validation = readings(record.lines, "loss"), readings(record.lines, "validation_loss")
    rate, speed = readings(record.lines, "learning_rate"), readings(record.lines, "tokens_per_second")
    if not (every := [*loss, *validation, *rate, *speed]):
        return _render("curves", charts=_render("missing", text="Nothing was logged, so there are no curves."))
    begin = min(r.seconds for r in every)
    time = Axis(begin, max(begin + 0.1, *(r.seconds for r in every)))
    small = [
        _small_chart("Learning rate, share of its peak", time, rate, "{:.0%}".format) if rate else "",
        _small_chart("Speed, tokens per second", time, speed, _short) if speed else "",
    ]
    large = _render("loss", chart=_loss_chart(time, loss, validation)) if loss or validation else ""
    return _render("curves", charts=_join([large, _list("pair", small)]))


def _small_chart(title: str, time: Axis, line: list[Reading], show: Show) -> Markup:
    plot = Plot(time, Axis(0, 1.05 * max(r.value for r in line) or 1), show)
    layers = [plot.line(_thin(line, 400), "train"), *plot.strips(line, lambda r: show(r.value))]
    said = f"From {show(line[0].value)} to {show(line[-1].value)}."
    return _render("small", title=title, chart=plot.drawn(title, said, layers))


def _loss_chart(time: Axis, loss: list[Reading], validation: list[Reading]) -> Markup:
    smooth = _smooth(loss)
    plot = Plot(time, Axis.around([r.value for r in (*loss, *validation)]), "{:g}".format, "nats per token")
    layers = [plot.line(_thin(loss, 1200), "raw"), plot.line(_thin(smooth, 400), "train")]
    layers += [plot.line(validation, "validation"), *(plot.dot(r, "validation", 3) for r in _thin(validation, 120))]
    layers += [plot.dot(min(validation, key=lambda r: r.value), "best", 6.5)] if validation else []
    ends = [(line[-1], name) for line, name in ((smooth, "training"), (validation, "validation")) if line]
    # The higher end's label stands above it and the lower one's below, so they never meet.
    for drop, (end, name) in zip((-14, 24), sorted(ends, key=lambda e: -e[0].value), strict=False):
        x, y = plot.place(end)
        layers.append(_tag("text", f"{name} {end.value:.2f}", css=f"end strong {name}", x=x, y=y, dy=drop))

    def read_out(reading: Reading) -> str:
        judged = max((v for v in validation if v.seconds <= reading.seconds), default=None)
        own = [f"training {reading.value:.3f}"] if smooth else []
        return ", ".join([*own, *([f"validation {judged.value:.3f}"] if judged else [])])

    layers += plot.strips(smooth or validation, read_out)
    return plot.drawn(
        "Loss over time", " ".join(f"The {name} loss ends at {end.value:.2f}." for end, name in ends), layers
    )


def _comparison(record: Record, published: Sequence[tuple[str, float]]) -> Markup:
    own, tokens = record.number("validation_loss"), record.facts["tokenizer"]
    same = tokens == "characters"
    text = "Nats per token, lower is better."
    if not same:
        text += f" The published numbers are for characters, and this run’s tokens are not characters but {tokens}: "
        text += "its number is not comparable with theirs, and has no bar."
    rows = sorted((value, name, "published") for name, value in published)
    rows = rows if own is None else [*rows, (own, "This run", "ours")]
    items, longest = [], max(value for value, *_ in rows)
    for value, name, kind in sorted(rows) if same else rows:
        ours = kind == "ours"
        rect = _tag("rect", width=_percent(value / longest), height="100%", rx=2)
        bar = _tag("svg", _tag("title", f"{_exact(value)} nats per token"), rect, css="bar", role="img")
        versus = "" if own is None or ours else _versus(own, value) if same else "not comparable"
        drawn = "" if ours and not same else bar
        items.append(_render("compared", kind=kind, name=name, bar=drawn, value=_exact(value), versus=versus))
    return _render("comparison", text=text, items=_join(items))


def _versus(own: float, other: float) -> str:
    return "equal" if own == other else f"{abs(own - other):.2g} {'lower' if own < other else 'higher'}"


def _samples(record: Record) -> Markup:
    if not record.samples:
        return Markup()
    judged = {r.step: f"validation loss {r.value:.2f}" for r in readings(record.lines, "validation_loss")}
    items = []
    for number, (stem, text) in enumerate(record.samples, start=1):
        step = _step_of(stem)
        title = f"Step {step:,.0f}" if step < math.inf else stem.replace("-", " ").capitalize()
        part = "sample" if number < len(record.samples) else "last"
        items.append(_render(part, title=title, unit=judged.get(step, ""), text=text))
    return _render("samples", earlier=_join(items[:-1]), last=items[-1])


def _details(record: Record) -> Iterator[Markup]:
    yield _list("fold", _tables("config.toml", record.config), title="All settings")
    yield _list("fold", _tables("environment.json", record.environment), title="The machine and the software")
    judged = _thin(readings(record.lines, "validation_loss"), 200)
    losses = {f"step {r.step:,.0f}, after {_duration(r.seconds)}": f"{r.value:.4f}" for r in judged}
    yield _list("fold", [_table("validation loss, nats per token", losses)], title="Every evaluation")


def _tables(name: str, values: Fields) -> Iterator[Markup]:
    inner = {key: value for key, value in values.items() if isinstance(value, dict)}
    yield _table(name, {key: value for key, value in values.items() if key not in inner})
    yield from (_table(f"[{key}]", value) for key, value in inner.items())


def _table(caption: str, values: Fields) -> Markup:
    shown = {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False, default=str) for k, v in values.items()}
    return _list("table", (_render("row", name=k, value=v) for k, v in shown.items()), caption=caption)


class Markup(str):
    """Text that is HTML already; all other text is escaped where it is put in."""


def _escape(value: object) -> str:
    # Neither HTML nor XML knows the control characters, and half of a surrogate pair is no UTF-8.
    return html.escape(re.sub(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]", "\ufffd", str(value)))


def _render(part: str, **values: object) -> Markup:
    shown = {key: value if isinstance(value, Markup) else _escape(value) for key, value in values.items()}
    return Markup(_parts()[part].substitute(shown))


def _list(part: str, items: Iterable[str], **values: object) -> Markup:
    """The part around its items; nothing where there are none."""
    inner = _join(items)
    return _render(part, items=inner, **values) if inner else inner


def _join(items: Iterable[str]) -> Markup:
    return Markup("\n".join(filter(None, items)))


@cache
def _parts() -> dict[str, Template]:
    _, *pieces = re.split(r"<!-- part: (\w+) -->\n", _package_file("report.html"))
    return {name: Template(text.strip()) for name, text in zip(pieces[::2], pieces[1::2], strict=True)}


def _package_file(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _tag(name: str, *children: str, css: str = "", **attributes: object) -> Markup:
    listed = "".join(f' {k}="{_escape(v)}"' for k, v in [("class", css), *attributes.items()] if v != "")
    inner = "".join(c if isinstance(c, Markup) else _escape(c) for c in children)
    return Markup(f"<{name}{listed}>{inner}</{name}>")


@dataclass(frozen=True)
class Axis:
    """A range of values and their place along it, from 0 to 1."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: Sequence[float]) -> Axis:
        """The values with a margin; spaced by ratio where they are all positive, as losses fall ever more slowly."""
        low, high = min(values), max(values)
        if low > 0:
            return cls(low / 1.1, high * 1.05, log=True)
        return cls(low - 0.1 * (high - low) - 0.1, high + 0.05 * (high - low) + 0.1)

    def at(self, value: float) -> float:
        """The value's share of the way from low to high."""
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return (value - low) / (high - low)

    def ticks(self, about: int) -> list[float]:
        """A few round values; the same ones in each decade where the range is several times its beginning."""
        if self.log and (ratio := self.high / self.low) > 2.5:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)))
            marks = (1, 1.5, 2, 3, 4, 5, 7) if ratio < 12 else (1, 2, 5) if ratio < 1e3 else (1,)
            return [v for d in decades for m in marks if self.low <= (v := m * 10.0**d) <= self.high]
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= 0.999 * rough)
        return [k * step for k in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


@dataclass(frozen=True)
class Plot:
    """Lines over time. Places are percentages, so that a drawing stretches to any width and its text does not."""

    time: Axis
    y: Axis
    show: Show
    y_name: str = ""

    def place(self, reading: Reading) -> tuple[str, str]:
        """Where a reading is drawn."""
        return _percent(self.time.at(reading.seconds)), _percent(1 - self.y.at(reading.value))

    def line(self, line: Sequence[Reading], css: str) -> Markup:
        """A line through readings."""
        xy = ((1000 * self.time.at(r.seconds), 1000 - 1000 * self.y.at(r.value)) for r in line)
        drawn = _tag("polyline", css=css, points=" ".join(f"{x:.1f},{y:.1f}" for x, y in xy))
        box = {"viewBox": "0 0 1000 1000", "preserveAspectRatio": "none", "width": "100%", "height": "100%"}
        return _tag("svg", drawn, css="stretch", **box)

    def dot(self, reading: Reading, css: str, radius: float) -> Markup:
        """A reading's dot."""
        x, y = self.place(reading)
        return _tag("circle", css=css, cx=x, cy=y, r=radius)

    def strips(self, line: Sequence[Reading], read_out: Callable[[Reading], str]) -> Iterator[Markup]:
        """Strips side by side that show what was logged there: the style does it, without JavaScript."""
        shown = _thin(line, STRIPS)
        places = [self.time.at(r.seconds) for r in shown]
        edges = [0.0, *((a + b) / 2 for a, b in pairwise(places)), 1.0]
        for reading, (left, right) in zip(shown, pairwise(edges), strict=True):
            when, what, (x, _) = _moment(reading._asdict()), read_out(reading), self.place(reading)
            title = _tag("title", f"{when}: {what}")
            rect = _tag("rect", x=_percent(left), width=_percent(max(0, right - left)), height="100%")
            rule = _tag("line", x1=x, x2=x, y2="100%")
            said = [_tag("text", text, css="end tip", x="100%", y=y) for text, y in ((when, -29), (what, -12))]
            yield _tag("g", title, rect, rule, self.dot(reading, "", 4), *said, css="hit")

    def drawn(self, title: str, said: str, layers: Iterable[str]) -> Markup:
        """The layers over a grid, with its numbers and names around them."""
        units = ((1, "seconds"), (60, "minutes"), (3600, "hours"))
        size, unit = next((u for u in units if self.time.high <= 150 * u[0]), units[-1])
        marks = [_tag("title", title), _tag("desc", said)]
        for tick in self.y.ticks(4):
            at = _percent(1 - self.y.at(tick))
            marks.append(_tag("line", css="grid", x2="100%", y1=at, y2=at))
            marks.append(_tag("text", self.show(tick), css="end", x=-8, y=at, dy=4))
        for tick in Axis(self.time.low / size, self.time.high / size).ticks(6):
            at = _percent(self.time.at(tick * size))
            marks.append(_tag("text", f"{tick:g}", css="centre", x=at, y="100%", dy=20))
        marks.append(_tag("text", f"{unit} since the start", css="centre", x="50%", y="100%", dy=40))
        marks.append(_tag("text", self.y_name, x=-46, y=-12))
        return _tag("svg", *marks, *layers, css="chart", role="img")


def _smooth(line: list[Reading]) -> list[Reading]:
    """Means over about a thirtieth of the run, narrower at its start, where the loss falls fast."""
    reach, smooth = len(line) // 60, []
    sums = [0.0, *accumulate(r.value for r in line)]
    for i, reading in enumerate(line):
        first, end = i - min(i, reach), min(i + min(i, reach) + 1, len(line))
        smooth.append(reading._replace(value=(sums[end] - sums[first]) / (end - first)))
    return smooth


def _thin(line: Sequence[Reading], most: int) -> list[Reading]:
    """About so many at most, evenly, with the last."""
    return [*line[: -1 : max(1, math.ceil(len(line) / most))], *line[-1:]]


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def _hundredths(value: float) -> str:
    return f"{value:,.2f}" if value < 1e6 else f"{value:.1e}"


def _exact(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".")


def _short(number: float) -> str:
    if number < 9999.5:
        return f"{number:,.0f}"
    size, sign = next(s for s in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")) if number >= 0.9995 * s[0])
    return (f"{number / size:.0f}" if number >= 99.95 * size else f"{number / size:.1f}".removesuffix(".0")) + sign


def _duration(seconds: float) -> str:
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, large, small, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size:,} {large}" + (f" {rest} {name}" if (rest := whole % size // small) else "")
    return f"{whole} s"


def _moment(line: Fields) -> str:
    step, seconds = _finite(line.get("step")), _finite(line.get("seconds"))
    return " · ".join(
        [*([] if step is None else [f"step {step:,.0f}"]), *([] if seconds is None else [_duration(seconds)])]
    )


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
