"""Which moments of a run are kept as snapshots."""

from itertools import pairwise

import pytest
from train.test_keeper import LETTERS

from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.system.world import World
from quoth.train.checkpoint import load
from quoth.train.keeper import moments, snapshots, step_of
from quoth.train.snapshots import EARLIEST, Snapshots, shares

MODEL = GPT(family("modern", vocabulary=11, context=8, layers=1, width=16, heads=2))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 20])
def test_shares_grow_in_equal_ratios(count):
    found = shares(count)
    assert len(found) == count
    assert found[:2] == [0.0, EARLIEST][:count]
    ratios = {round(b / a, 9) for a, b in pairwise(found[1:])}
    assert len(ratios) <= 1
    if count > 2:
        assert found[-1] * ratios.pop() == pytest.approx(1)


def take_all(run, count, steps, first=0, before=-1.0):
    kept = Snapshots(run, World(), count)
    for step in range(first, steps):
        assert kept.take(before, step / steps, step, MODEL, LETTERS) == ""
        before = step / steps
    assert kept.settle() == ""
    return kept


def test_one_is_taken_where_a_share_is_reached(tmp_path):
    take_all(tmp_path, 5, 1024)
    wanted = [0, 2, 10, 46, 216]
    assert [step_of(folder) for folder in reversed(snapshots(tmp_path))] == wanted
    assert list(moments(tmp_path)) == wanted
    assert load(tmp_path / "snapshots" / "step-000046").state["step"] == 46


def test_few_steps_make_few_snapshots_and_none_is_none(tmp_path):
    take_all(tmp_path / "few", 20, 4)
    assert [step_of(folder) for folder in reversed(snapshots(tmp_path / "few"))] == [0, 1, 2, 3]
    take_all(tmp_path / "none", 0, 4)
    assert snapshots(tmp_path / "none") == []


def test_a_run_that_goes_back_takes_later_ones_again(tmp_path):
    kept = take_all(tmp_path, 5, 1024)
    kept.cut(40)
    assert [step_of(folder) for folder in snapshots(tmp_path)] == [10, 2, 0]
    take_all(tmp_path, 5, 1024, first=40, before=39 / 1024)
    assert list(moments(tmp_path)) == [0, 2, 10, 46, 216]


def test_a_run_that_is_extended_takes_those_of_its_new_length(tmp_path):
    take_all(tmp_path, 5, 512)
    take_all(tmp_path, 5, 1024, first=512, before=511 / 512)
    assert list(moments(tmp_path)) == [0, 1, 5, 23, 108]
