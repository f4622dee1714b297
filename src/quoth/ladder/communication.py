"""Attention as communication: nodes of a directed graph, each hearing from the ones that point to it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from quoth.ladder import attention
from quoth.ladder.attention import Head
from quoth.ladder.embedding import placed
from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Graph, Part, Say, Show, Table


def edges(weight_TS: Tensor, least: float = 0.0) -> list[tuple[int, int, float]]:
    """The edges (from, to, weight) whose weight is above `least`, the heaviest first for each node."""
    found = [(s, t, float(weight_TS[t, s])) for t, s in (weight_TS > least).nonzero().tolist()]
    return sorted(found, key=lambda edge: (edge[1], -edge[2]))


def explain(lesson: Lesson) -> Iterator[Part]:
    """The graph of a trained head on the text: who hears from whom, and how much."""
    model = lesson.trained(lesson.holding(attention.RUNG), steps=2000)
    head, ids = model.blocks[0], lesson.ids
    assert isinstance(head, Head)
    names = [f"{t} {name}" for t, name in enumerate(lesson.names(ids))]
    with torch.no_grad():
        weight_TS = head.weights(placed(model, ids))[0]
    yield Show("weights of the text's tokens: rows hear columns", weight_TS, names, names)
    yield Graph("Who hears from whom", names, weight_TS)
    heard = [edges(weight_TS[[t]])[:3] for t in range(len(ids))]
    rows = [(names[t], ", ".join(f"{names[s]} {w:.2f}" for s, _, w in row)) for t, row in enumerate(heard)]
    yield Table("The three that each listens to most", ["node", "hears from"], rows)
    T = len(ids)
    yield Say(
        f"{T} nodes and {T * (T + 1) // 2} edges: the first hears only itself, the last from all. A causal head is "
        "this graph; an encoder's has all edges, in both directions. Attention is communication over any directed "
        "graph, its weights found from the nodes' own vectors."
    )
