"""What an explanation is made of. A topic yields parts; who shows them draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Say:
    """A sentence or two."""

    text: str


@dataclass(frozen=True)
class Show:
    """A tensor, with what its last two axes' places are called where that is known."""

    name: str
    tensor: Tensor
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()


@dataclass(frozen=True)
class Table:
    """Rows under named columns; the first column says what a row is about."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float]]


@dataclass(frozen=True)
class Curves:
    """Lines over one x; `log` spaces y by ratio."""

    name: str
    x_name: str
    y_name: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[float]]
    log: bool = False


@dataclass(frozen=True)
class Graph:
    """A directed graph over labelled nodes: `weight_TS[t, s]` is what node t takes from node s; 0 is no edge."""

    name: str
    labels: Sequence[str]
    weight_TS: Tensor


Part = Say | Show | Table | Curves | Graph
