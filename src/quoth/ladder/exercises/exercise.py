"""An exercise: a function to write, the right one, and the mistakes that are known by their results."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Any]


@dataclass(frozen=True)
class Exercise:
    """`right` is a solution, and its docstring the task; `wrong` are mistakes, each named by its docstring.

    `inputs` are lists of arguments, enough of them to tell every mistake from the right function and from another.
    """

    right: Function
    wrong: Sequence[Function]
    inputs: Callable[[torch.Generator], Sequence[Sequence[Any]]]

    @property
    def task(self) -> str:
        """What to write."""
        return inspect.getdoc(self.right) or ""

    @property
    def beginning(self) -> str:
        """The file to begin with."""
        arguments = ", ".join(inspect.signature(self.right).parameters)
        return f'import torch\n\n\ndef {self.right.__name__}({arguments}):\n    """{self.task}"""\n    ...\n'

    def judge(self, solution: Function) -> str | None:
        """None for a right solution, else a sentence: the mistake by its name, or what was wanted and what was got."""
        inputs = self.inputs(torch.Generator().manual_seed(1337))
        got = []
        for arguments in inputs:
            try:
                got.append(solution(*copy.deepcopy(arguments)))
            except Exception as error:
                return f"{self.right.__name__}{_shown(arguments)} raised {type(error).__name__}: {error}"
        wanted = [self.right(*arguments) for arguments in inputs]
        if all(map(same, got, wanted)):
            return None
        for mistake in self.wrong:
            if all(map(same, got, (mistake(*arguments) for arguments in inputs))):
                return inspect.getdoc(mistake)
        number = next(i for i, (g, w) in enumerate(zip(got, wanted, strict=True)) if not same(g, w))
        return f"{self.right.__name__}{_shown(inputs[number])} is {_one(wanted[number])}, not {_one(got[number])}."


def same(a: Any, b: Any) -> bool:
    """Equal, or for numbers close; tensors also in shape, sequences item by item."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-5, equal_nan=True)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, int | float | Tensor) and isinstance(b, int | float | Tensor):
        return abs(float(a) - float(b)) <= 1e-5 + 1e-4 * abs(float(b))
    return bool(a == b)


def _shown(arguments: Sequence[Any]) -> str:
    return f"({', '.join(_one(a) for a in arguments)})"


def _one(value: Any) -> str:
    if isinstance(value, Tensor):
        shape = f"a tensor {tuple(value.shape)}"
        return shape if value.numel() > 12 else f"{shape} {value.tolist()}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
