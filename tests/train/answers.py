"""Batches of prompts and answers as the objectives of tuning take them, padded on either side."""

from dataclasses import replace

import torch

from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.text.batches import Batch


def small(vocabulary=11, context=16, seed=0, **given):
    torch.manual_seed(seed)
    shape = {"width": 16, "layers": 2, "heads": 2, "initialization": "torch", **given}
    return GPT(family("modern", vocabulary=vocabulary, context=context, **shape)).double()


def answered(rows, *, width=0, left=False, junk=0):
    """Rows of (prompt, answer), whose answers count; `junk` is the id of padding, on the right unless `left`."""
    T = max(width, *(len(p) + len(a) - 1 for p, a in rows))
    x, y = (torch.full((len(rows), T), junk) for _ in range(2))
    weight, segment = torch.zeros(len(rows), T, dtype=torch.float64), torch.zeros(len(rows), T, dtype=torch.long)
    for n, (prompt, answer) in enumerate(rows):
        ids = torch.tensor([*prompt, *answer])
        begin = T - len(ids) + 1 if left else 0
        where = slice(begin, begin + len(ids) - 1)
        x[n, where], y[n, where], segment[n, where] = ids[:-1], ids[1:], 1
        weight[n, begin + len(prompt) - 1 : begin + len(ids) - 1] = 1
    return Batch(x, y, weight, segment_BT=segment if left else None)


def with_more(batch, units=None, **more):
    return replace(batch, more={**batch.more, **more}, units=units)


def gradient(loss, model):
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)
    pairs = zip(found, model.parameters(), strict=True)
    return torch.cat([torch.zeros(p.numel()) if g is None else g.flatten() for g, p in pairs])
