"""What a run's folder tells, its resumes made good."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from quoth.studio.record import finite, read_record, readings, step_of


def log(run: Path, lines: Iterable[dict[str, float]]) -> None:
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_step_done_again_after_a_resume_counts_once(tmp_path: Path) -> None:
    lines = [{"step": 1, "seconds": 1, "loss": 9.0}, {"step": 2, "seconds": 2, "loss": 8.0}]
    again = {"step": 2, "seconds": 3, "loss": 2.0}
    log(tmp_path, [*lines, again])
    assert [r.value for r in readings(read_record(tmp_path).lines, "loss")] == [9.0, 2.0]


def test_the_clock_goes_on_after_a_resume(tmp_path: Path) -> None:
    log(tmp_path, ({"step": 10 * i, "seconds": s, "loss": 2.0} for i, s in enumerate((5.0, 65.0, 4.0, 64.0))))
    (tmp_path / "summary.json").write_text('{"seconds": 65.0}')
    record = read_record(tmp_path)
    assert [r.seconds for r in readings(record.lines, "loss")] == [5, 65, 69, 129]
    assert record.number("seconds") == 129


@pytest.mark.parametrize(("value", "number"), [(2, 2.0), (-1.5, -1.5), (True, None), ("1", None), (10**400, None)])
def test_only_numbers_are_numbers(value: object, number: float | None) -> None:
    assert finite(value) == number


def test_samples_are_in_the_order_of_their_steps() -> None:
    names = ["step-000900", "last", "step-1000000", "step-2900"]
    assert sorted(names, key=step_of) == ["step-000900", "step-2900", "step-1000000", "last"]
