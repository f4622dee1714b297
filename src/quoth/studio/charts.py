"""Drawings as SVG text: lines over time, and bars."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from quoth.studio.record import Reading

Show = Callable[[float], str]
STRIPS = 90  # How many places along a chart answer to a pointer.


class Markup(str):
    """Text that is HTML already; all other text is escaped where it is put in."""


def escape(value: object) -> str:
    """Text as it may stand in HTML and in SVG."""
    # Neither HTML nor XML knows the control characters, and half of a surrogate pair is no UTF-8.
    return html.escape(re.sub(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]", "\ufffd", str(value)))


def tag(name: str, *children: str, css: str = "", **attributes: object) -> Markup:
    """An element of HTML or SVG; empty attributes are left out."""
    listed = "".join(f' {k}="{escape(v)}"' for k, v in [("class", css), *attributes.items()] if v != "")
    inner = "".join(c if isinstance(c, Markup) else escape(c) for c in children)
    return Markup(f"<{name}{listed}>{inner}</{name}>")


@dataclass(frozen=True)
class Axis:
    """A range of values and their place along it, from 0 to 1."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: Sequence[float]) -> Axis:
        """A range around the values, spaced by ratio if all are positive, since a loss falls ever more slowly."""
        low, high = min(values), max(values)
        if low > 0:
            return cls(low / 1.1, high * 1.05, log=True)
        return cls(low - 0.1 * (high - low) - 0.1, high + 0.05 * (high - low) + 0.1)

    def at(self, value: float) -> float:
        """The value's share of the way from low to high."""
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return (value - low) / (high - low)

    def ticks(self, about: int) -> list[float]:
        """A few round values; the same ones in each decade if the axis is spaced by ratio and long enough."""
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
    """Lines over time. Places are percentages, so a drawing stretches to any width, while its text keeps its size."""

    time: Axis
    y: Axis
    show: Show
    y_name: str = ""

    def line(self, line: Sequence[Reading], css: str) -> Markup:
        """A line through readings."""
        xy = ((1000 * self.time.at(r.seconds), 1000 - 1000 * self.y.at(r.value)) for r in line)
        drawn = tag("polyline", css=css, points=" ".join(f"{x:.1f},{y:.1f}" for x, y in xy))
        box = {"viewBox": "0 0 1000 1000", "preserveAspectRatio": "none", "width": "100%", "height": "100%"}
        return tag("svg", drawn, css="stretch", **box)

    def dot(self, reading: Reading, css: str, radius: float) -> Markup:
        """A reading's dot."""
        x, y = self._place(reading)
        return tag("circle", css=css, cx=x, cy=y, r=radius)

    def label(self, reading: Reading, text: str, css: str, drop: float) -> Markup:
        """Text that ends at a reading, so many pixels below it."""
        x, y = self._place(reading)
        return tag("text", text, css=f"end {css}", x=x, y=y, dy=drop)

    def strips(self, line: Sequence[Reading], read_out: Callable[[Reading], tuple[str, str]]) -> Iterator[Markup]:
        """Strips side by side that show, under a pointer, when and what was logged; the style sheet does this alone."""
        shown = thin(line, STRIPS)
        places = [self.time.at(r.seconds) for r in shown]
        edges = [0.0, *((a + b) / 2 for a, b in pairwise(places)), 1.0]
        for reading, (left, right) in zip(shown, pairwise(edges), strict=True):
            (when, what), (x, _) = read_out(reading), self._place(reading)
            title = tag("title", f"{when}: {what}")
            rect = tag("rect", x=_percent(left), width=_percent(max(0, right - left)), height="100%")
            rule = tag("line", x1=x, x2=x, y2="100%")
            said = [tag("text", text, css="end tip", x="100%", y=y) for text, y in ((when, -29), (what, -12))]
            yield tag("g", title, rect, rule, self.dot(reading, "", 4), *said, css="hit")

    def drawn(self, title: str, said: str, layers: Iterable[str]) -> Markup:
        """The layers over a grid, with its numbers and names around them."""
        units = ((1, "seconds"), (60, "minutes"), (3600, "hours"))
        size, unit = next((u for u in units if self.time.high <= 150 * u[0]), units[-1])
        marks = [tag("title", title), tag("desc", said)]
        for tick in self.y.ticks(4):
            at = _percent(1 - self.y.at(tick))
            marks.append(tag("line", css="grid", x2="100%", y1=at, y2=at))
            marks.append(tag("text", self.show(tick), css="end", x=-8, y=at, dy=4))
        for tick in Axis(self.time.low / size, self.time.high / size).ticks(6):
            at = _percent(self.time.at(tick * size))
            marks.append(tag("text", f"{tick:g}", css="centre", x=at, y="100%", dy=20))
        marks.append(tag("text", f"{unit} since the start", css="centre", x="50%", y="100%", dy=40))
        marks.append(tag("text", self.y_name, x=-46, y=-12))
        return tag("svg", *marks, *layers, css="chart", role="img")

    def _place(self, reading: Reading) -> tuple[str, str]:
        return _percent(self.time.at(reading.seconds)), _percent(1 - self.y.at(reading.value))


def bar(share: float, title: str) -> Markup:
    """A bar over a share of its place's width."""
    rect = tag("rect", width=_percent(share), height="100%", rx=2)
    return tag("svg", tag("title", title), rect, css="bar", role="img")


def smooth(line: list[Reading]) -> list[Reading]:
    """Each reading's mean with its neighbours, over about a thirtieth of the run; over less of it near both ends."""
    reach, means = len(line) // 60, []
    sums = [0.0, *accumulate(r.value for r in line)]
    for i, reading in enumerate(line):
        near = min(i, reach)
        first, end = i - near, min(i + near + 1, len(line))
        means.append(reading._replace(value=(sums[end] - sums[first]) / (end - first)))
    return means


def thin(line: Sequence[Reading], most: int) -> list[Reading]:
    """At most about `most` readings of a line, evenly spaced, with the last one among them."""
    return [*line[: -1 : max(1, math.ceil(len(line) / most))], *line[-1:]]


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"
