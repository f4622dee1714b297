"""A GPT that gives a text a score instead of continuing it: a reward model, or the critic of PPO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from quoth.model.attention import CacheSlice, Segments
from quoth.model.config import GPTConfig
from quoth.model.gpt import GPT, Block
from quoth.model.layers import Places
from quoth.train.checkpoint import Checkpoint, bare, merged, read
from quoth.train.manifest import verify

# What the mean of a text's numbers weighs beside the last one. With 8 a few more held-out pairs come out right, but a
# policy soon finds that one liked word after the other makes a high mean.
MEAN_WEIGHT = 2.0


class Scorer(GPT):
    """A GPT that gives one number for each token: ids (B, T) → (B, T, 1).

    The number at a token is the score of the text up to and including that token: what the head makes of the token's
    state, and `MEAN_WEIGHT` times the mean of what it makes of all states up to there. The last state alone, as Ouyang
    et al. 2022 read it, would have to gather by attention whatever is liked anywhere in the text, which a small model
    learns less well from a thousand comparisons.

    The head starts at zero, so that every text starts with the score 0.

    >>> from quoth.model.config import family
    >>> Scorer(family("modern", vocabulary=65, width=64, layers=2))(torch.zeros(1, 8, dtype=torch.long)).abs().sum()
    tensor(0., grad_fn=<SumBackward0>)
    """

    kind: ClassVar[str] = "reward model"

    def __init__(self, config: GPTConfig, block: Callable[[GPTConfig], nn.Module] = Block) -> None:
        super().__init__(config.replace(tied=False, bias_head=False), block)
        self.head = nn.Linear(config.width, 1, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(
        self,
        token_BT: Tensor,
        caches: Sequence[CacheSlice] | CacheSlice | None = None,
        places: Places | None = None,
        source_BSC: Tensor | None = None,
    ) -> Tensor:
        """The score after every token, (B, T, 1); see `GPT.hidden` for the arguments. A cache must hold no text."""
        hidden_BTC = self.hidden(token_BT, caches, places, source_BSC)
        # In bfloat16 two answers of nearly the same score would be a tie.
        with torch.autocast(hidden_BTC.device.type, enabled=False):
            own_BT1: Tensor = self.head(hidden_BTC.to(self.head.weight.dtype))
            return own_BT1 + MEAN_WEIGHT * _means(own_BT1, caches if isinstance(caches, Segments) else None)


def _means(number_BT1: Tensor, segments: Segments | None) -> Tensor:
    """The mean of the numbers from the beginning of a token's own text up to the token, (B, T, 1)."""
    sum_BT1 = number_BT1.cumsum(1)
    if segments is None:
        return sum_BT1 / torch.arange(1, number_BT1.shape[1] + 1, device=number_BT1.device)[:, None]
    before_BT1 = (sum_BT1 - number_BT1).gather(1, segments.begin_BT[..., None])
    shared_BT1 = segments.shared_BT[..., None]
    beginning_B11 = (number_BT1 * shared_BT1).sum(1, keepdim=True)
    own_BT1 = sum_BT1 - before_BT1 + torch.where(shared_BT1, 0, beginning_B11)
    return own_BT1 / (segments.places_BT[..., None] + 1)


def scorer_of(model: GPT) -> Scorer:
    """A scorer with the weights of a language model, which stays as it is, and a new head of zeros.

    An adapter in the model is merged into the scorer's weights.

    >>> scorer_of(model)(token_BT).shape == (*token_BT.shape, 1)           # doctest: +SKIP
    True
    """
    model = bare(model)
    first = next(model.parameters())
    scorer = Scorer(model.config, model.block).to(first.device, first.dtype)
    body = {name: tensor for name, tensor in merged(model, None).items() if not name.startswith("head.")}
    scorer.load_state_dict({**body, "head.weight": scorer.head.weight})
    return scorer


def load_scorer(
    folder: Path | str, device: torch.device | str = "cpu", *, block: Callable[[GPTConfig], nn.Module] = Block
) -> Checkpoint:
    """Read a checkpoint of a scorer, as `load` does one of a language model.

    Raises:
        InputError: the checkpoint is missing, damaged, or no reward model.
    """
    verify(Path(folder))
    return read(Path(folder), device, block=block, kind=Scorer)
