"""Whether two results are the same, and how they and errors are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def same(a: Any, b: Any) -> bool:
    """Equal, or for numbers close; tensors also in shape and in whether they are booleans; sequences item by item."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        alike = a.shape == b.shape and (a.dtype == torch.bool) == (b.dtype == torch.bool)
        return alike and torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-5, equal_nan=True)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if a is None or b is None:
        return a is b
    try:
        if isinstance(a, int) and isinstance(b, int):
            return a == b
        return abs(float(a) - float(b)) <= 1e-5 + 1e-4 * abs(float(b))
    except (TypeError, ValueError, RuntimeError):
        return type(a) is type(b) and bool(a == b)


def first_line(error: BaseException) -> str:
    """An error's kind, and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def shown(arguments: Sequence[Any]) -> str:
    return f"({', '.join(one(a) for a in arguments)})"


def one(value: Any) -> str:
    if isinstance(value, Tensor):
        shape = f"a tensor {tuple(value.shape)}"
        return shape if value.numel() > 12 else f"{shape} {value.tolist()}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
