"""`quoth plan`: what it says, and what it will not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.helpers import MACHINE, SHAPE, Quoth, write_text

from quoth.plan.footprint import parameters
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
        (["gpt3", "--batch", "-5"], "--batch and --accumulate must be 1 or more"),
        (["gpt3", "--tokens", "nan"], "--tokens must be a finite number, not nan"),
        (["gpt3", "--tokens", "-1"], "--tokens and --price 0 or more"),
        (["gpt3", "--dtype", "float32"], "--dtype does not apply to gpt3"),
        (["laptop", "--count", "8"], "devices that --on names"),
    ],
)
def test_what_cannot_be_planned(given: list[str], said: str, quoth: Quoth) -> None:
    result = quoth("plan", *given)
    assert result.code == 2
    assert said in result.err


def test_settings_change_a_published_shape(quoth: Quoth) -> None:
    plain, short, again = (
        json.loads(quoth("plan", "llama3-8b", "--count", "64", "--json", *flags).out)
        for flags in ([], ["--context", "2048"], ["--recompute", "true"])
    )
    assert not plain["fits"]
    assert short["fits"]
    assert again["fits"]
    assert again["step_seconds"] / again["tokens_per_step"] > 1.3 * plain["step_seconds"] / plain["tokens_per_step"]
    assert "published_flops" not in short


def test_a_preset_on_devices_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quoth: Quoth) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text.txt")
    preset = ["plan", "laptop", "--data", "text.txt", *SHAPE, *MACHINE, "--json", "--on", "h100"]
    steps = json.loads(quoth(*preset, "--steps", "100", "--accumulate", "4", "--count", "2").out)
    assert (steps["batch"], steps["tokens_per_step"], steps["tokens"]) == (4, 4 * 4 * 32, 100 * 4 * 4 * 32)
    minutes = json.loads(quoth(*preset, "--minutes", "2").out)
    assert minutes["seconds"] == pytest.approx(120)
    shared = quoth(*preset, "--steps", "10", "--count", "3")
    assert (shared.code, "3 processes cannot share evenly" in shared.err) == (2, True)


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
    assert 50 * said["step_seconds"] < said["seconds"] < 50 * said["step_seconds"] + 60
