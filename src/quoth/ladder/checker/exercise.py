"""An exercise: a function to write, the right one, and the mistakes that are known by their results."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from quoth.ladder.checker.compare import difference, kind, same, shown

Function = Callable[..., Any]


@dataclass(frozen=True)
class Exercise:
    """`right` is a solution, and its docstring the task; `wrong` are mistakes, each named by its docstring.

    A mistake with a keyword argument `of` changes what another function, by default the right one, takes or returns:
    the mistake can be made together with another, and both are recognised.

    `inputs` are lists of arguments, enough of them to tell every mistake from the right function and from another.
    """

    right: Function
    wrong: Sequence[Function]
    inputs: Callable[[torch.Generator], Sequence[Sequence[Any]]]

    @property
    def name(self) -> str:
        """What the function is to be called."""
        return self.right.__name__

    @property
    def task(self) -> str:
        """What to write."""
        return inspect.getdoc(self.right) or ""

    @property
    def beginning(self) -> str:
        """The file to begin with."""
        arguments = ", ".join(inspect.signature(self.right).parameters)
        task = self.task.replace("\n", "\n    ")
        return f'import torch\n\n\ndef {self.name}({arguments}):\n    """{task}"""\n    ...\n'

    def cases(self) -> Sequence[Sequence[Any]]:
        """The arguments of the calls that are checked, the same each time."""
        return self.inputs(torch.Generator().manual_seed(1337))

    def call(self, number: int) -> str:
        """The call with the arguments of one case, as a message shows it."""
        return f"{self.name}{shown(self.cases()[number])}"

    def judge(self, got: Sequence[Any]) -> str | None:
        """None where the results of all cases are right, else a sentence.

        The sentence names the mistake, or two of them, or says what was wanted and what was got.
        """
        wanted = [self.right(*arguments) for arguments in self.cases()]
        if _all_same(got, wanted):
            return None
        for mistake in self.wrong:
            if _all_same(got, self._results(mistake)):
                return inspect.getdoc(mistake)
        for both, names in self.pairs():
            if _all_same(got, self._results(both)):
                return f"Two mistakes are made at once. {' '.join(names)}"
        number = next(i for i, (g, w) in enumerate(zip(got, wanted, strict=True)) if not same(g, w))
        return f"{self.call(number)}{difference(wanted[number], got[number])}."

    def pairs(self) -> Iterator[tuple[Function, tuple[str, str]]]:
        """Every function in which two mistakes are made at once, and what these are called."""
        for change in self.wrong:
            if "of" in inspect.signature(change).parameters:
                for other in self.wrong:
                    if other is not change:
                        yield partial(change, of=other), (inspect.getdoc(other) or "", inspect.getdoc(change) or "")

    def hint(self, tries: int) -> str:
        """Lines that help without telling the solution: what kind of result is wanted, and one mistake more each try.

        The mistakes are those that were planted here, so a learner who reads them knows what to look for.
        """
        mistakes = [inspect.getdoc(mistake) or "" for mistake in self.wrong[: tries + 1]]
        lines = [
            f"{self.call(0)} should return {kind(self.right(*self.cases()[0]))}.",
            "Look whether this is true of yours:",
        ]
        return "\n".join([*lines, *(f"- {' '.join(mistake.split())}" for mistake in mistakes)]) + "\n"

    def _results(self, function: Function) -> list[Any] | None:
        """What a function returns in each case; None where it fails, as two mistakes that do not go together may."""
        try:
            return [function(*arguments) for arguments in self.cases()]
        except (RuntimeError, ValueError, IndexError, TypeError, ZeroDivisionError):
            return None


def _all_same(got: Sequence[Any], wanted: Sequence[Any] | None) -> bool:
    return wanted is not None and len(got) == len(wanted) and all(map(same, got, wanted))
