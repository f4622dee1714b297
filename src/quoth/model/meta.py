"""Modules of which only the names, types and shapes are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@contextmanager
def on_meta() -> Iterator[None]:
    """What is made here has no numbers, and takes next to no memory or time however large it is.

    On torch's meta device alone, random numbers would import torch's compiler, which takes a second, to draw nothing.

    >>> with on_meta(): torch.nn.Linear(10**6, 10**6).weight.device
    device(type='meta', index=None)
    """
    with torch.device("meta"), _NothingSet():
        yield


class _NothingSet(TorchFunctionMode):
    """In it the functions of `torch.nn.init` leave their tensor as it is."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else given["tensor"]
        return function(*args, **given)
