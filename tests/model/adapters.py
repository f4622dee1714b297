"""Adapters of low rank (LoRA, arXiv:2106.09685), put on a layer in the ways that people put them there."""

import torch
from torch import nn
from torch.nn.utils import parametrize

RANK = 2


class LowRank(nn.Module):
    """A weight with a product of two thin matrices added, for `torch.nn.utils.parametrize`."""

    def __init__(self, weight):
        super().__init__()
        self.a = nn.Parameter(torch.randn(RANK, weight.shape[1], dtype=weight.dtype))
        self.b = nn.Parameter(torch.randn(weight.shape[0], RANK, dtype=weight.dtype))

    def forward(self, weight):
        return weight + self.b @ self.a


class Wrapped(nn.Module):
    """A module around a linear layer."""

    def __init__(self, linear):
        super().__init__()
        self.linear, self.adapter = linear, LowRank(linear.weight)

    def forward(self, x):
        return self.linear(x) + x @ self.adapter.a.T @ self.adapter.b.T


class Derived(nn.Linear):
    """A linear layer that adds to what linear layers do."""

    def __init__(self, linear):
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, dtype=linear.weight.dtype)
        self.load_state_dict(linear.state_dict())
        self.adapter = LowRank(self.weight)

    def forward(self, x):
        return super().forward(x) + x @ self.adapter.a.T @ self.adapter.b.T


def parametrized(linear):
    return parametrize.register_parametrization(linear, "weight", LowRank(linear.weight))


def hooked(linear):
    """By a hook, which is called after the layer."""
    linear.adapter = LowRank(linear.weight)
    linear.register_forward_hook(lambda module, given, out: out + given[0] @ module.adapter.a.T @ module.adapter.b.T)
    return linear


def redirected(linear):
    """By a `forward` of its own."""
    plain, linear.adapter = linear.forward, LowRank(linear.weight)
    linear.forward = lambda x: plain(x) + x @ linear.adapter.a.T @ linear.adapter.b.T
    return linear


KINDS = {
    "parametrized": parametrized,
    "wrapped": Wrapped,
    "derived": Derived,
    "hooked": hooked,
    "redirected": redirected,
}


def adapt(model, kind):
    """Put an adapter on every linear layer inside the blocks; the weights that the model should then compute with."""
    merged = {}
    for i, block in enumerate(model.blocks):
        for part in ("attention", "mlp"):
            for name, linear in list(getattr(block, part).named_children()):
                if isinstance(linear, nn.Linear):
                    weight = linear.weight.detach().clone()
                    made = KINDS[kind](linear)
                    setattr(getattr(block, part), name, made)
                    low = made.parametrizations.weight[0] if kind == "parametrized" else made.adapter
                    merged[f"blocks.{i}.{part}.{name}.weight"] = weight + (low.b @ low.a).detach()
    return merged
