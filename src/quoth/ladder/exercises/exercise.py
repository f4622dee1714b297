"""An exercise: a function to write, the right one, and the mistakes that are known by their results."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from quoth.ladder.exercises.compare import first_line, one, same, shown

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
        task = self.task.replace("\n", "\n    ")
        return f'import torch\n\n\ndef {self.right.__name__}({arguments}):\n    """{task}"""\n    ...\n'

    def judge(self, solution: Function) -> str | None:
        """None for a right solution, else a sentence: the mistake by its name, or what was wanted and what was got."""
        inputs = self.inputs(torch.Generator().manual_seed(1337))
        got = []
        for arguments in inputs:
            try:
                got.append(solution(*copy.deepcopy(arguments)))
            except Exception as error:
                return f"{self.right.__name__}{shown(arguments)} raised {first_line(error)}"
        wanted = [self.right(*arguments) for arguments in inputs]
        if all(map(same, got, wanted)):
            return None
        for mistake in self.wrong:
            if all(map(same, got, (mistake(*arguments) for arguments in inputs))):
                return inspect.getdoc(mistake)
        number = next(i for i, (g, w) in enumerate(zip(got, wanted, strict=True)) if not same(g, w))
        return f"{self.right.__name__}{shown(inputs[number])} is {one(wanted[number])}, not {one(got[number])}."
