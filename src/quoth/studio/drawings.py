"""Drawings that stand alone, as .svg and .dot files: curves over one x, matrices, and directed graphs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from quoth.studio.charts import Axis, Markup, tag

WIDTH, HEIGHT, LEFT, BELOW, ABOVE = 720, 400, 64, 48, 40
COLOURS = ("#2f6596", "#a8401f", "#4c7a34", "#7b5aa6", "#8a6d1d")
FONT = "font: 13px system-ui, sans-serif; fill: #67625a"


def curves_svg(
    title: str, x_name: str, y_name: str, x: Sequence[float], lines: Mapping[str, Sequence[float]], *, log: bool = False
) -> str:
    """Lines over one x, each with its name at its end.

    >>> curves_svg("t", "x", "y", [1, 2], {"a": [1, 2]}).startswith("<svg")
    True
    """
    paths = {name: list(zip(x, line, strict=True)) for name, line in lines.items()}
    across = Axis(min(x), max(x), log=min(x) > 0 and max(x) / min(x) > 20)
    return _paths_svg((title, x_name, y_name), across, x, paths, log=log)


def paths_svg(title: str, x_name: str, y_name: str, paths: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Lines through points (x, y), each with its name at its end.

    >>> paths_svg("t", "x", "y", {"a": [(1, 2), (3, 1)]}).startswith("<svg")
    True
    """
    x = [a for path in paths.values() for a, _ in path]
    across = Axis(min(0.0, *x), max(x) or 1.0)
    return _paths_svg((title, x_name, y_name), across, across.ticks(6), paths)


def _paths_svg(
    names: tuple[str, str, str],
    across: Axis,
    ticks: Sequence[float],
    paths: Mapping[str, Sequence[tuple[float, float]]],
    *,
    log: bool = False,
) -> str:
    title, x_name, y_name = names
    values = [b for path in paths.values() for _, b in path if math.isfinite(b)]
    y = Axis.around(values) if log or min(values) <= 0 else Axis(0, 1.08 * max(values))
    plot_width, plot_height = WIDTH - LEFT - 150, HEIGHT - BELOW - ABOVE

    def place(a: float, b: float) -> tuple[float, float]:
        return LEFT + plot_width * across.at(a), ABOVE + plot_height * (1 - y.at(b))

    marks = [_text(LEFT, 22, title, weight="600"), _text(8, ABOVE - 2, y_name)]
    for tick in y.ticks(5):
        at = place(across.low, tick)[1]
        marks.append(tag("line", x1=LEFT, x2=LEFT + plot_width, y1=f"{at:.1f}", y2=f"{at:.1f}", stroke="#dcd7cd"))
        marks.append(_text(LEFT - 8, at + 4, f"{tick:g}", anchor="end"))
    for value in ticks:
        marks.append(_text(place(value, y.low)[0], HEIGHT - BELOW + 20, f"{value:g}", anchor="middle"))
    marks.append(_text(LEFT + plot_width / 2, HEIGHT - 8, x_name, anchor="middle"))
    for colour, (name, path) in zip(COLOURS * len(paths), paths.items(), strict=False):
        dots = [place(a, b) for a, b in path if math.isfinite(b)]
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in dots)
        marks.append(tag("polyline", points=points, fill="none", stroke=colour, **{"stroke-width": "2"}))
        marks += [tag("circle", cx=f"{a:.1f}", cy=f"{b:.1f}", r=3, fill=colour) for a, b in dots]
        marks.append(_text(dots[-1][0] + 10, dots[-1][1] + 4, name, fill=colour))
    return _svg(WIDTH, HEIGHT, title, marks)


def graph_svg(title: str, labels: Sequence[str], edges: Sequence[tuple[int, int, float]]) -> str:
    """Nodes in a row, and an arc for each edge (from, to, weight), the thicker the heavier.

    An arrow points to the node that hears; a node that hears itself has a loop. An arrow's head is a path of its own,
    of one size for every weight.
    """
    step, radius = 84, 17
    width, base = step * len(labels) + 32, 44 + 24 * len(labels)
    marks = [_text(16, 24, title, weight="600")]
    for source, target, weight in edges:
        a, b = (16 + step * (n + 0.5) for n in (source, target))
        lift = 24 * abs(target - source)
        top, bottom = base - radius, base + radius - 3
        path = f"M {a:.0f} {top} Q {(a + b) / 2:.0f} {top - 2 * lift} {b:.0f} {top}"
        if source == target:
            path = f"M {a - 8:.0f} {bottom} c -18 38 34 38 16 0"
        said = tag("title", f"{labels[target]} hears {weight:.2f} from {labels[source]}")
        style = {"stroke-width": f"{0.4 + 7 * weight:.2f}", "stroke-opacity": f"{0.15 + 0.75 * min(1, weight):.2f}"}
        marks.append(tag("path", said, d=path, fill="none", stroke=COLOURS[0], **style))
        if source != target:
            marks.append(_arrow_head(b, top, math.atan2(2 * lift, (b - a) / 2), style["stroke-opacity"]))
    for number, label in enumerate(labels):
        x = 16 + step * (number + 0.5)
        marks.append(tag("circle", cx=f"{x:.0f}", cy=base, r=radius, fill="#fbfaf7", stroke="#67625a"))
        marks.append(_text(x, base + 4, label.split(" ", 1)[-1], anchor="middle", fill="#23211e"))
    return _svg(width, base + 64, title, marks)


def matrix_svg(title: str, values: Sequence[Sequence[float]], rows: Sequence[str], columns: Sequence[str]) -> str:
    """A matrix as squares, the darker the larger, blue above zero and red below; a place with −∞ stays empty."""
    side, left, above = 44, 24 + 9 * max([len(r) for r in rows] or [0]), 40 + 20 * bool(columns)
    largest = max([abs(v) for row in values for v in row if math.isfinite(v)] or [1]) or 1
    marks = [_text(16, 24, title, weight="600")]
    marks += [_text(left + side * (s + 0.5), above - 6, name, anchor="middle") for s, name in enumerate(columns)]
    for t, row in enumerate(values):
        y = above + side * t
        if rows:
            marks.append(_text(left - 8, y + side / 2 + 4, rows[t], anchor="end"))
        for s, value in enumerate(row):
            share = abs(value) / largest if math.isfinite(value) else 0.0
            opacity = {"fill-opacity": f"{share:.2f}"}
            x, wide = left + side * s, side - 2
            marks.append(tag("rect", x=x, y=y, width=wide, height=wide, fill=COLOURS[value < 0], **opacity))
            shown = f"{value:.2f}" if math.isfinite(value) else "−∞"
            ink = "#fbfaf7" if share > 0.55 else "#23211e"
            marks.append(_text(left + side * (s + 0.5) - 1, y + side / 2 + 4, shown, anchor="middle", fill=ink))
    width = max(left + side * len(values[0]) + 16, 32 + 8 * len(title))
    return _svg(width, above + side * len(values) + 16, title, marks)


def graph_dot(title: str, labels: Sequence[str], edges: Sequence[tuple[int, int, float]]) -> str:
    """The graph of `graph_svg` in Graphviz's language, DOT."""
    quoted = [label.replace("\\", "\\\\").replace('"', '\\"') for label in labels]
    nodes = [f'  {n} [label="{label}"];' for n, label in enumerate(quoted)]
    arrows = [f'  {s} -> {t} [label="{w:.2f}", penwidth={0.4 + 7 * w:.2f}];' for s, t, w in edges]
    name = title.replace('"', "'")
    return "\n".join([f'digraph "{name}" {{', "  rankdir=LR;", *nodes, *arrows, "}", ""])


def _arrow_head(x: float, y: float, angle: float, opacity: str) -> Markup:
    """A triangle with its point at (x, y), of an arrow that flies at an angle, in radians, downwards positive."""
    corners = [(x, y), *((x - 11 * math.cos(angle + turn), y - 11 * math.sin(angle + turn)) for turn in (-0.4, 0.4))]
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)
    return tag("polygon", points=points, fill=COLOURS[0], **{"fill-opacity": opacity})


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "", fill: str = "") -> Markup:
    look = {"text-anchor": anchor, "font-weight": weight, "style": f"fill: {fill}" if fill else ""}
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", **look)


def _svg(width: float, height: float, title: str, marks: Sequence[Markup]) -> str:
    ground = tag("rect", width=width, height=height, fill="#fbfaf7")
    style = tag("style", f"text {{ {FONT} }}")
    return tag(
        "svg", tag("title", title), style, ground, *marks, xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}", width=width, height=height, role="img",
    )  # fmt: skip
