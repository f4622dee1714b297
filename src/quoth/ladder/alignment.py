"""Where a translator's decoder looks in the source while it writes."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from quoth.ladder.pig_latin import pair_batch, pig_latin
from quoth.model.attention import Attention
from quoth.model.seq2seq import CrossBlock, Seq2Seq


def looks(model: Seq2Seq, word: str) -> Tensor:
    """Where the last layer's cross-attention looks: written letters × source letters, the mean of its heads."""
    seen: list[Tensor] = []
    block = cast(CrossBlock, model.decoder.blocks[-1])

    def keep(module: Attention, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(module.weights(*args, **kwargs).mean(1)[0])

    with block.cross.register_forward_pre_hook(keep, with_kwargs=True), torch.no_grad():
        model.eval()(pair_batch([word]).x_BT)
    return seen[0][: len(pig_latin(word)), : len(word)]
