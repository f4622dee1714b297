"""A `quoth` to call in-process, and one tiny run for all tests that need one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
import torch
from cli.helpers import TINY, Quoth, Result, write_text

from quoth.cli.dispatch import dispatch
from quoth.system.device import can_compile


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Commands set torch's threads, and look for a compiler once."""
    threads = torch.get_num_threads()
    can_compile.cache_clear()
    yield
    torch.set_num_threads(threads)
    can_compile.cache_clear()


@pytest.fixture
def quoth(capsys: pytest.CaptureFixture[str]) -> Quoth:
    """Run a command in this process."""

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        try:
            code = dispatch(list(arguments))
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and a finished run on it, `runs/first`. Not to be changed; `here` is a copy."""
    folder = tmp_path_factory.mktemp("workplace")
    write_text(folder / "text.txt")
    with chdir(folder):
        assert dispatch(["train", "text.txt", *TINY, "--out", "runs/first"]) == 0
    return folder


@pytest.fixture
def here(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the workplace, and the current folder."""
    shutil.copytree(workplace, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"
