"""`quoth plan`: what it says, and what it will not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.helpers import MACHINE, Quoth, write_text

from quoth.plan.memory import parameters
from quoth.plan.published import PUBLISHED


def test_the_command(quoth: Quoth) -> None:
    said = json.loads(quoth("plan", "gpt3", "--json", "--on", "a100", "--count", "1024", "--price", "2").out)
    assert said["parameters"] == parameters(PUBLISHED["gpt3"].config)
    assert {"flops_per_token", "memory_bytes", "step_seconds"} <= said.keys()
    assert said["cost"] == pytest.approx(2 * said["device_hours"])
    text = quoth("plan", "gpt2-xl").out
    assert "1,557,611,200" in text
    assert "NVIDIA H100 SXM" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["gpt3", "--on", "h10"], "There is no device 'h10' (did you mean 'h100'?)"),
        (["gpt3", "--count", "0"], "--count must be 1 or more"),
        (["gpt5"], "There is no run 'gpt5'"),
        (["gpt3", "--utilization", "1.5"], "--utilization in (0, 1]"),
    ],
)
def test_what_cannot_be_planned(given: list[str], said: str, quoth: Quoth) -> None:
    result = quoth("plan", *given)
    assert result.code == 2
    assert said in result.err


@pytest.mark.slow
def test_this_machine_is_tried_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quoth: Quoth) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text.txt")
    shape = ["--layers", "1", "--width", "32", "--context", "32", "--batch", "8", "--steps", "50"]
    result = quoth("plan", "laptop", "--data", "text.txt", *shape, *MACHINE, "--json")
    assert result.code == 0, result.err
    said = json.loads(result.out)
    assert 0 < said["step_seconds"] < 1
    assert 1e8 < said["memory_bytes"] < 2e9
    assert said["tokens"] == 50 * 8 * 32
    assert said["seconds"] == pytest.approx(50 * said["step_seconds"])
