"""Read tensors by name from a safetensors file."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from quoth.system.errors import InputError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A file's tensors by name.

    Raises:
        InputError: the file is not safetensors.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as safetensors: {error}.") from error
