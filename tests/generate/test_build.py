"""The compilation of the decoder: its command, and what is said where it fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from generate.models import model
from generate.test_engine import engine_of

from quoth.generate.decoder import TorchDecoder
from quoth.generate.make_decoder import make_decoder
from quoth.generate.native import build
from quoth.generate.native.decoder import NativeDecoder
from quoth.recipes.load_engine import tell_why_not
from quoth.system.errors import InputError

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="there is no C++ compiler")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache without a decoder in it."""
    monkeypatch.setenv("QUOTH_CACHE", os.fspath(tmp_path / "cache"))
    build.library.cache_clear()
    yield tmp_path / "cache"
    build.library.cache_clear()


def use_compiler(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "cpp_compiler", lambda: command)


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return os.fspath(path)


def test_a_failed_compilation_keeps_its_output_and_is_not_tried_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    compiler = script(
        tmp_path / "cxx", f"[ $1 = --version ] && exit 0; echo x >> {calls}; echo no such flag >&2; exit 3"
    )
    use_compiler(compiler, monkeypatch)
    for _ in range(2):
        build.library.cache_clear()
        with pytest.raises(build.BuildError, match=r"failed to compile it, and .*\.log has .*delete that file to try"):
            build.library()
    (log,) = cache.glob("decoder-*.log")
    assert "no such flag" in log.read_text()
    assert calls.read_text() == "x\n"
    log.unlink()
    with pytest.raises(build.BuildError):
        build.library()
    assert calls.read_text() == "x\nx\n"


def test_an_engine_tells_why_it_is_slower(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_compiler("false", monkeypatch)
    assert engine_of(compiled=None).decoder.why_not == ""
    decoder = engine_of(compiled=True).decoder
    assert isinstance(decoder, TorchDecoder)
    assert str(next(cache.glob("*.log"))) in decoder.why_not
    assert engine_of(compiled=None).decoder.why_not == decoder.why_not
    assert engine_of(compiled=False).decoder.why_not == ""
    with pytest.raises(InputError, match=r"int8 need the compiled decoder, but false failed to compile it"):
        make_decoder(model("modern"), 1, 8, weights="int8", compiled=True)


def test_the_reason_is_said_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_compiler("false", monkeypatch)
    said: list[str] = []
    for _ in range(2):
        tell_why_not(engine_of(compiled=True), said.append)
    assert len(said) == 1
    assert "slower" in said[0] and ".log" in said[0]


def test_a_compiler_may_be_a_command_of_several_words(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_compiler("env 'LC_ALL=C' g++", monkeypatch)
    assert isinstance(make_decoder(model("modern"), 1, 8, compiled=True), NativeDecoder)
    assert list(cache.glob("decoder-*.so"))


def test_a_compiler_that_makes_nothing_has_failed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_compiler("true", monkeypatch)
    with pytest.raises(build.BuildError, match="true failed"):
        build.library()
    assert "does not say why" in next(cache.glob("*.log")).read_text()
