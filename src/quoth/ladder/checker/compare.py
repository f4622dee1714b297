"""Whether two results are the same, where they differ, and how values and errors are told."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from quoth.ladder.checker.values import Other
from quoth.system.errors import short

RELATIVE, ABSOLUTE = 1e-4, 1e-5


def same(a: Any, b: Any) -> bool:
    """Whether two results are equal, or for numbers close.

    Tensors also need one shape, and both or neither must be of booleans. Sequences are compared item by item.
    """
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        alike = a.shape == b.shape and (a.dtype == torch.bool) == (b.dtype == torch.bool)
        return alike and bool(close(a, b).all())
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if a is None or b is None:
        return a is b
    if isinstance(a, str | Other) or isinstance(b, str | Other):
        return type(a) is type(b) and bool(a == b)
    try:
        if isinstance(a, int) and isinstance(b, int):
            return a == b
        x, y = float(a), float(b)
        return x == y or (x != x and y != y) or abs(x - y) <= ABSOLUTE + RELATIVE * min(abs(y), sys.float_info.max)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return False


def close(a: Tensor, b: Tensor) -> Tensor:
    """Where two tensors of one shape are equal but for rounding: booleans of that shape."""
    return torch.isclose(a.double(), b.double(), rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)


def difference(wanted: Any, got: Any) -> str:
    """The first place at which two results differ, as an index, and what should be there; without a full stop.

    >>> difference([1, (2, 3)], [1, (2, 4)])
    '[1][1] should be 3, not 4'
    >>> difference(torch.zeros(2, 2), torch.eye(2))
    '[0, 0] should be 0, not 1 (2 of 4 numbers differ)'
    """
    if isinstance(wanted, Tensor) and isinstance(got, Tensor):
        return _between_tensors(wanted, got)
    wanted, got = (x.item() if isinstance(x, Tensor) and x.ndim == 0 else x for x in (wanted, got))
    if isinstance(wanted, list | tuple) and isinstance(got, list | tuple):
        if len(wanted) != len(got):
            return f" should have {len(wanted)} items, not {len(got)}: {one(wanted)}, not {one(got)}"
        place = next(i for i, (w, g) in enumerate(zip(wanted, got, strict=True)) if not same(g, w))
        return f"[{place}]{difference(wanted[place], got[place])}"
    if isinstance(wanted, float) and isinstance(got, float):
        return f" should be {_apart(wanted, got)}"
    return f" should be {one(wanted)}, not {one(got)}"


def _between_tensors(wanted: Tensor, got: Tensor) -> str:
    if wanted.shape != got.shape:
        return f" should have the shape {tuple(wanted.shape)}, not {tuple(got.shape)}"
    if (wanted.dtype == torch.bool) != (got.dtype == torch.bool):
        return f" should be of {wanted.dtype}, not of {got.dtype}"
    places = (~close(got, wanted)).nonzero()
    first = tuple(places[0].tolist())
    index = f"{list(first)}" if first else ""
    many = f" ({len(places)} of {wanted.numel()} numbers differ)" if wanted.numel() > 1 else ""
    return f"{index} should be {_apart(wanted[first].item(), got[first].item())}{many}"


def _apart(wanted: float, got: float) -> str:
    """Both numbers, with as many digits as it takes to tell them from each other."""
    w, g = (number if isinstance(number, bool) else f"{number:.6g}" for number in (wanted, got))
    return f"{w}, not {g}" if w != g else f"{wanted!r}, not {got!r}"


def shown(arguments: Sequence[Any]) -> str:
    """The arguments of a call, in parentheses, none of them long."""
    return f"({', '.join(one(a) for a in arguments)})"


def one(value: Any) -> str:
    """A value in a message: a tensor by its shape, a small one of whole numbers or booleans by these too."""
    if isinstance(value, Tensor):
        text = f"a tensor {tuple(value.shape)}"
        return text if value.numel() > 12 or value.is_floating_point() else f"{text} {value.tolist()}"
    if isinstance(value, Other):
        return value.shown
    return "a function" if callable(value) else short(value)


def kind(value: Any) -> str:
    """What a result is, without its numbers.

    >>> kind(torch.zeros(2, 3)), kind((1, "a"))
    ('a tensor (2, 3) of torch.float32', 'a tuple of 2: a whole number, a text')
    """
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}: {', '.join(map(kind, value))}"
    if isinstance(value, list):
        return f"a list of {len(value)}" + (f", each of them {kind(value[0])}" if value else "")
    names = {bool: "True or False", int: "a whole number", float: "a number", str: "a text", type(None): "None"}
    return names.get(type(value), type(value).__name__)
