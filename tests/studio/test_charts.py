"""Drawings stand where the numbers say."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ElementTree
from statistics import fmean

import pytest

from quoth.studio.charts import Axis, Plot, smooth, thin
from quoth.studio.record import Reading


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(0, 10), [0, 2.5, 5, 7.5, 10]),
        (Axis(-1, 3), [-1, 0, 1, 2, 3]),
        (Axis(1.3, 4.4, log=True), [1.5, 2, 3, 4]),
        (Axis(0.9, 60, log=True), [1, 2, 5, 10, 20, 50]),
    ],
)
def test_ticks_are_round(axis: Axis, ticks: list[float]) -> None:
    assert axis.ticks(4) == pytest.approx(ticks)


@pytest.mark.parametrize("values", [[2.0], [1e-12, 1e12], [0.0, 0.0], [-3.0, 5.0]])
def test_an_axis_holds_its_values_and_a_few_ticks(values: list[float]) -> None:
    axis = Axis.around(values)
    assert all(0 < axis.at(value) < 1 for value in values)
    assert 2 <= len(axis.ticks(4)) <= 26


@pytest.mark.parametrize("length", [1, 59, 60, 500])
def test_smooth_is_the_mean_of_near_readings(length: int) -> None:
    dice = random.Random(length)
    line = [Reading(i, i, dice.random()) for i in range(length)]
    for i, mean in enumerate(smooth(line)):
        near = min(i, length // 60)
        assert mean.value == pytest.approx(fmean(r.value for r in line if abs(r.step - i) <= near))
        assert mean[:2] == line[i][:2]


@pytest.mark.parametrize("length", [0, 1, 7, 100, 1001])
def test_thin_keeps_the_last_and_few_others(length: int) -> None:
    line = [Reading(i, i, 1.0) for i in range(length)]
    few = thin(line, 10)
    assert few[-1:] == line[-1:]
    assert few == sorted(set(few))
    assert len(few) <= 11


def test_strips_cover_the_whole_width_once() -> None:
    line = [Reading(s, s, 1.0) for s in (0.0, 1.0, 5.0, 10.0)]
    plot = Plot(Axis(0, 10), Axis(0, 2), str)
    rects = [ElementTree.fromstring(strip).find("rect") for strip in plot.strips(line, lambda r: ("when", "what"))]
    places = [tuple(float(rect.attrib[k].rstrip("%")) for k in ("x", "width")) for rect in rects if rect is not None]
    assert places == [(0, 5), (5, 25), (30, 45), (75, 25)]
