"""An encoder that learns: characters are hidden, and guessed from both sides (as in BERT, arXiv:1810.04805)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Table
from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.model.seq2seq import encoder
from quoth.text.batches import Batch, Windows
from quoth.train.loop import fit
from quoth.train.objectives import next_token
from quoth.train.optimizers import make_optimizer

SHARE, CONTEXT = 0.15, 64


@dataclass(frozen=True)
class Masked:
    """Windows with a share of their tokens hidden behind the token `mask`; only those count."""

    windows: Windows
    mask: int

    def __getitem__(self, step: int) -> list[Batch]:
        rng = torch.Generator().manual_seed((self.windows.seed * 2**20 + step) % 2**63)
        return [hide(batch.x_BT, self.mask, rng) for batch in self.windows[step]]


def hide(token_BT: Tensor, mask: int, rng: torch.Generator) -> Batch:
    """x with some tokens hidden, y what stood everywhere, and a weight of 1 where it was hidden."""
    rank_BT = torch.rand(token_BT.shape, generator=rng)
    hidden_BT = (rank_BT < SHARE) | (rank_BT == rank_BT.min())  # At least one, however short the text.
    return Batch(token_BT.masked_fill(hidden_BT, mask), token_BT, hidden_BT.float())


def train(lesson: Lesson, steps: int) -> GPT:
    """A masked-character model, by the one loop and the objective that decoders have."""
    V = lesson.tokenizer.vocabulary
    torch.manual_seed(lesson.seed)
    model = encoder(family("modern", vocabulary=V + 1, width=64, layers=2, context=CONTEXT))
    batches = Masked(lesson.corpus.batches(32, CONTEXT, seed=lesson.seed), mask=V)
    training = fit(model, make_optimizer(model), batches, next_token, steps=steps)
    return lesson.learn(model, "the encoder", training, steps, lesson.train[None, :8])


def explain(lesson: Lesson) -> Iterator[Part]:
    """Train one, hide characters of the text, and see what it guesses."""
    model, V = train(lesson, steps=600), lesson.tokenizer.vocabulary
    ids = lesson.ids
    batch = hide(ids[None], V, torch.Generator().manual_seed(lesson.seed))
    assert batch.weight_BT is not None
    with torch.no_grad():
        p_TV = model(batch.x_BT)[0, :, :V].softmax(-1)
    places = batch.weight_BT[0].nonzero()[:, 0].tolist()
    shown = "".join("_" if t in places else lesson.read([i]) for t, i in enumerate(ids.tolist()))
    yield Say(f"Hidden: {shown!r}")
    guess_T = p_TV.argmax(-1)
    was, guess = lesson.names(ids[places]), lesson.names(guess_T[places])
    rows = [(t, w, g, f"{p_TV[t].max():.2f}") for t, w, g in zip(places, was, guess, strict=True)]
    yield Table("What stood there, and the likeliest guess", ["place", "was", "guess", "how sure"], rows)
    yield Say(
        "The same blocks with causal=False, the same loop, the same objective with a weight on what is hidden. It "
        "fills gaps by what stands on both sides; but it cannot go on from a text, since nothing was ever predicted "
        "from the left alone."
    )
