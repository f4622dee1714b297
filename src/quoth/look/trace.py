"""What a model does with a text: the residual stream, attention, and what each layer expects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quoth.look.parts import Part, layers_of, without
from quoth.model.attention import Attention
from quoth.model.gpt import GPT
from quoth.system.errors import Interrupted

# How many logits of the lens are made at once: 64 MB.
LOGITS = 2**24


@dataclass(frozen=True)
class Trace:
    """What happened inside a model of L layers as it read T tokens.

    The lens reads the residual stream as if the next layer were the head (nostalgebraist 2020, "interpreting GPT: the
    logit lens"); the last of its L + 1 rows is what the model itself expects.

    Attributes:
        stream_LTC: the residual stream before each layer and after the last, (L + 1, T, C).
        attention_LHTS: how much each token attends to each one up to itself, (L, H, T, T), where each row sums to 1; or
            what was kept of it.
        likely_LTN: the ids of the N tokens that the lens takes to be the likeliest to follow, (L + 1, T, N).
        probability_LTN: how likely it takes them to be.
        loss_LT: how surprised the lens is by the token that does follow, in nats, (L + 1, T - 1).
        logit_TV: the model's logits, to the bit those of `model(token_T[None])`.
    """

    stream_LTC: Tensor
    attention_LHTS: Tensor
    likely_LTN: Tensor
    probability_LTN: Tensor
    loss_LT: Tensor
    logit_TV: Tensor


@torch.no_grad()
def trace(
    model: GPT,
    token_T: Tensor,
    *,
    off: Sequence[Part] = (),
    likeliest: int = 10,
    keep: Callable[[Tensor], Tensor] = lambda weight_HTS: weight_HTS,
    go_on: Callable[[], bool] = lambda: True,
) -> Trace:
    """What happens in a model as it reads some tokens, (T,), at most its context, without the parts that are `off`.

    The model computes as always, and hooks watch it; attention's weights are computed a second time beside it, a layer
    at a time. `keep` makes of a layer's weights (H, T, T) what is kept of them, since those of all layers may not fit
    into memory; `shrunk` is such a function.

    >>> from quoth.model.config import family
    >>> trace(GPT(family("modern", vocabulary=65, width=64, layers=2)), torch.arange(8)).stream_LTC.shape
    torch.Size([3, 8, 64])

    Raises:
        InputError: the model's blocks are not of the usual kind.
        Interrupted: `go_on`, which is called before each layer and each part of the lens, returned false.
    """
    model.eval()
    streams: list[Tensor] = []
    weights: list[Tensor] = []

    def watch_stream(module: nn.Module, args: Any) -> None:
        _check(go_on)
        streams.append(args[0][0])

    def watch_attention(module: nn.Module, args: Any) -> None:
        assert isinstance(module, Attention)
        weights.append(keep(module.weights(*args[:2])[0]))

    with ExitStack() as stack:
        stack.enter_context(without(model, [off]))
        for block in layers_of(model):
            stack.callback(block.register_forward_pre_hook(watch_stream).remove)
            stack.callback(block.attention.register_forward_pre_hook(watch_attention).remove)
        stack.callback(model.norm.register_forward_pre_hook(watch_stream).remove)
        logit_TV = model(token_T[None])[0]
    stream_LTC = torch.stack(streams)
    count = min(likeliest, model.config.vocabulary)
    likely, probability, loss = _lens(model, stream_LTC, logit_TV, token_T, count, go_on)
    return Trace(stream_LTC, torch.stack(weights), likely, probability, loss, logit_TV)


def shrunk(most: int) -> Callable[[Tensor], Tensor]:
    """A function that makes at most `most` by `most` cells of weights (H, T, S); a cell holds the largest in it.

    >>> shrunk(2)(torch.arange(16.0).view(1, 4, 4))
    tensor([[[ 5.,  7.],
             [13., 15.]]])
    """

    def keep(weight_HTS: Tensor) -> Tensor:
        cell = -(-weight_HTS.shape[-1] // most)
        return weight_HTS if cell == 1 else F.max_pool2d(weight_HTS[None], cell, ceil_mode=True)[0]

    return keep


def _check(go_on: Callable[[], bool]) -> None:
    if not go_on():
        raise Interrupted


def _lens(
    model: GPT, stream_LTC: Tensor, logit_TV: Tensor, token_T: Tensor, count: int, go_on: Callable[[], bool]
) -> list[Tensor]:
    """The likeliest ids, their probabilities and the losses by layer; a few rows of logits at a time."""
    layers, T, _ = stream_LTC.shape
    following_T = torch.cat([token_T[1:], token_T[:1]])  # Nothing follows the last one, and its loss is left out.
    found: list[list[Tensor]] = [[], [], []]
    rows = max(1, LOGITS // logit_TV.shape[-1])
    places = [(layer, at) for layer in range(layers) for at in range(0, T, rows)]
    for layer, at in places:
        _check(go_on)
        part = slice(at, at + rows)
        own = layer == layers - 1
        logp_TV = (logit_TV[part] if own else model.head(model.norm(stream_LTC[layer, part]))).float().log_softmax(-1)
        logp_TN, id_TN = logp_TV.topk(count)
        loss_T = F.nll_loss(logp_TV, following_T[part], reduction="none")
        for into, one in zip(found, (id_TN, logp_TN.exp(), loss_T), strict=True):
            into.append(one)
    likely, probability, loss = (torch.cat(one) for one in found)
    shaped = [one.reshape(layers, T, *one.shape[1:]) for one in (likely, probability, loss)]
    return [*shaped[:2], shaped[2][:, :-1]]


def losses_without(
    model: GPT, token_T: Tensor, parts: Sequence[Part], go_on: Callable[[], bool] = lambda: True
) -> Tensor:
    """How much more each token surprises a model without each of some parts, in nats: (N, T − 1).

    All are rows of one batch, or of several where there would be too many logits. Up to its layer a row is the whole
    model's, so that it joins the batch only there, which halves the work.

    Raises:
        InputError: the model's blocks are not of the usual kind.
        Interrupted: `go_on`, which is called before each layer, returned false.
    """
    order = sorted(range(len(parts)), key=lambda number: parts[number].layer)
    rows = max(1, LOGITS // (len(token_T) * model.config.vocabulary) - 1)
    more_NT = torch.empty(len(parts), len(token_T) - 1, device=token_T.device)
    for at in range(0, len(order), rows):
        loss_BT = _losses(model, token_T, [parts[number] for number in order[at : at + rows]], go_on)
        more_NT[order[at : at + rows]] = loss_BT[1:] - loss_BT[0]
    return more_NT


@torch.no_grad()
def _losses(model: GPT, token_T: Tensor, parts: Sequence[Part], go_on: Callable[[], bool]) -> Tensor:
    """The losses of the whole model, and without each of some parts, which are sorted by layer: (1 + N, T − 1)."""
    model.eval()

    def joined(layer: int) -> Callable[[nn.Module, Any], tuple[Any, ...]]:
        def hook(module: nn.Module, args: Any) -> tuple[Any, ...]:
            _check(go_on)
            x_BTC, *others = args
            new = sum(part.layer == layer for part in parts)
            return (torch.cat([x_BTC, x_BTC[:1].expand(new, -1, -1)]), *others)

        return hook

    with ExitStack() as stack:
        for layer, block in enumerate(layers_of(model)):
            stack.callback(block.register_forward_pre_hook(joined(layer)).remove)
            here = [[], *([part] for part in parts if part.layer <= layer)]
            stack.enter_context(without(model, here, range(layer, layer + 1)))
        logit_BTV = model(token_T[None])[:, :-1]
    target_BT = token_T[1:].expand(len(logit_BTV), -1)
    return F.cross_entropy(logit_BTV.float().mT, target_BT, reduction="none")


def saliency(model: GPT, token_T: Tensor, place: int) -> Tensor:
    """How much the loss of token `place` + 1 hangs on each token up to `place`: |gradient · embedding|, (place + 1,).

    Raises:
        IndexError: no token follows that place.
    """
    model.eval()
    target = token_T[place + 1]
    with torch.enable_grad():
        embedded: list[Tensor] = []

        def detached(module: nn.Module, args: Any, x_BTC: Tensor) -> Tensor:
            embedded.append(x_BTC.detach().requires_grad_())
            return embedded[0]

        hook = model.embed.register_forward_hook(detached)
        try:
            logit_V = model(token_T[None, : place + 1])[0, -1]
        finally:
            hook.remove()
        (gradient_BTC,) = torch.autograd.grad(F.cross_entropy(logit_V.float(), target), embedded)
    return (gradient_BTC * embedded[0]).detach().sum(-1)[0].abs()
