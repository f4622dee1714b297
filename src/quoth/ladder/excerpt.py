"""A text in a corpus's tokens, and the part of it that a topic shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from quoth.ladder.topics import MOST_SHOWN
from quoth.system.errors import InputError
from quoth.text.corpus import Corpus
from quoth.text.tokenizer import Tokenizer, decode


@dataclass(frozen=True)
class Excerpt:
    """The first tokens of a user's text. All that is random comes from the seed.

    Attributes:
        most: how many of the text's tokens are shown; None for all of them.

    Raises InputError for an empty text, and for a character that the tokenizer does not know.
    """

    text: str
    corpus: Corpus
    seed: int = 1337
    most: int | None = MOST_SHOWN

    def __post_init__(self) -> None:
        if not len(self.all_ids):
            raise InputError("The text is empty, but a topic needs at least 1 token.")

    @property
    def tokenizer(self) -> Tokenizer:
        return self.corpus.tokenizer

    @cached_property
    def all_ids(self) -> Tensor:
        """All of the text's tokens, (N,)."""
        return torch.from_numpy(self.tokenizer.encode(self.text).astype(np.int64))

    @property
    def ids(self) -> Tensor:
        """The tokens that are shown, (T,): the first `most`."""
        return self.all_ids[: self.most]

    @property
    def left_out(self) -> str:
        """A sentence on what of the text is not shown; nothing where all of it is."""
        shown, every = len(self.ids), len(self.all_ids)
        return f"The text has {every:,} tokens; shown are the first {shown}: {self.read(self.ids.tolist())!r}." * (
            shown < every
        )

    def read(self, ids: Iterable[int]) -> str:
        """The text of ids."""
        return decode(self.tokenizer, ids)

    def names(self, token_T: Tensor) -> list[str]:
        """Tokens as they can be read, quoted."""
        return [repr(self.tokenizer.pieces[int(t)].decode("utf-8", "replace")) for t in token_T]

    def vectors(self, C: int = 2) -> Tensor:
        """A random vector for each token that is shown, (T, C), the same for the same token."""
        rng = torch.Generator().manual_seed(self.seed)
        table_VC = torch.randn(self.tokenizer.vocabulary, C, generator=rng)
        return table_VC[self.ids]
