"""Results as JSON: what a learner's function returned, on its way from one process to another."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Number
from typing import Any

import torch
from torch import Tensor

from quoth.system.errors import short

# A right result is far smaller; of a larger one only the outlines are kept.
MOST_ITEMS = 10_000
MOST_BITS = 4096
DEEPEST = 8


@dataclass(frozen=True)
class Other:
    """A value of a kind or a size that no right result has, in words."""

    shown: str


def encode(value: Any, depth: int = 0) -> Any:
    """The value as JSON: numbers, texts and None as they are, all else as an object with one key for its kind.

    >>> encode((1, [2.5]))
    {'tuple': [1, {'list': [2.5]}]}
    """
    if isinstance(value, Tensor):
        return _tensor(value)
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # A number of numpy.
        return encode(value.item(), depth + 1)
    if isinstance(value, list | tuple) and len(value) <= MOST_ITEMS and depth < DEEPEST:
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [encode(item, depth + 1) for item in value]}
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return int(value) if value.bit_length() <= MOST_BITS else {"other": f"a number of {value.bit_length()} bits"}
    if isinstance(value, str):
        return value if len(value) <= MOST_ITEMS else {"other": f"a text of {len(value)} characters"}
    if isinstance(value, Number) and not isinstance(value, complex):  # Such as a fraction.
        return float(value)  # type: ignore[arg-type]
    if callable(value) and hasattr(value, "__name__"):
        return {"other": f"the function {value.__name__}"}
    return {"other": f"{short(value)} of the type {type(value).__name__}"}


def decode(value: Any) -> Any:
    """The value that was encoded; an `Other` for what could not be.

    Raises:
        ValueError, KeyError, TypeError, RuntimeError: it was not written by `encode`.
    """
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return torch.tensor(value["tensor"], dtype=getattr(torch, value["dtype"])).view(value["shape"])
    if "other" in value:
        return Other(str(value["other"]))
    return tuple(map(decode, value["tuple"])) if "tuple" in value else list(map(decode, value["list"]))


def _tensor(value: Tensor) -> Any:
    shape = list(value.shape)
    if value.numel() > MOST_ITEMS or value.is_complex() or value.layout != torch.strided:
        return {"other": f"a tensor {tuple(shape)} of {value.dtype} and {value.layout}"}
    dtype = str(value.dtype).removeprefix("torch.")
    return {"tensor": value.detach().flatten().tolist(), "dtype": dtype, "shape": shape}
