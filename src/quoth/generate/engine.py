"""The only code that samples: weights and a prompt in, a stream of text out."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from quoth.generate.cache import LayerCache, make_caches
from quoth.generate.sampling import Sampling, draw
from quoth.model.gpt import GPT
from quoth.system.errors import InputError
from quoth.text.tokenizer import Tokenizer


class Engine:
    """Generates from a model, several continuations of one prompt at a time.

    The window slides: when the context is full, the older half is forgotten and the newer half is read again. Without
    a cache (`cached=False`, for blocks that keep none) each token reads the last `context` ones anew, which is slower.

    >>> engine = Engine(model, tokenizer)                                  # doctest: +SKIP
    >>> for text in engine.stream("ROMEO:", tokens=200, seed=1): print(text, end="")  # doctest: +SKIP
    """

    def __init__(self, model: GPT, tokenizer: Tokenizer, *, cached: bool = True) -> None:
        self.model, self.tokenizer, self.cached = model.eval(), tokenizer, cached
        self.device = model.embed.weight.device

    def prompt_ids(self, prompt: str) -> list[int]:
        """The prompt's ids; without a prompt, a line break if the tokenizer knows one, else its first token.

        Raises:
            InputError: a character that the tokenizer does not know.
        """
        if prompt:
            return self.tokenizer.encode(prompt).tolist()  # type: ignore[no-any-return]
        pieces = self.tokenizer.pieces
        return [pieces.index(b"\n") if b"\n" in pieces else 0]

    def ids(
        self, prompt: Sequence[int], tokens: int, *, sampling: Sampling | None = None, seed: int = 0, count: int = 1
    ) -> Iterator[Tensor]:
        """Yield `tokens` times the next id of each of `count` continuations, (count,)."""
        sampling = sampling or Sampling()
        rng = torch.Generator(self.device).manual_seed(seed)
        context = self.model.config.context
        # What has been read, so that the window can slide; all continuations begin alike.
        seen = torch.tensor([prompt[-context:]], device=self.device).expand(count, -1)
        fresh, caches = seen, self._caches(count)
        for _ in range(tokens):
            if caches and caches[0].length + fresh.shape[1] > context:
                fresh, caches = seen[:, -max(1, context // 2) :], self._caches(count)
            elif not caches:
                fresh = seen[:, -context:]
            token = draw(self._logits(fresh, caches), sampling, rng)
            yield token
            fresh = token[:, None]
            seen = torch.cat((seen[:, -context:], fresh), dim=1)

    def _caches(self, count: int) -> list[LayerCache]:
        if not self.cached:
            return []
        return make_caches(count, self.model.config, self.model.embed.weight.dtype, self.device)

    def _logits(self, fresh_BT: Tensor, caches: list[LayerCache]) -> Tensor:
        # What a sharded model, which can `unshard`, gathers here is used again by training.
        with torch.no_grad() if hasattr(self.model, "unshard") else torch.inference_mode():
            return self.model(fresh_BT, caches or None, caches[0].length if caches else 0)[:, -1]  # type: ignore[no-any-return]

    def stream(
        self,
        prompt: str = "",
        tokens: int = 500,
        *,
        sampling: Sampling | None = None,
        seed: int = 0,
        stop: Sequence[str] = (),
    ) -> Iterator[str]:
        """The continuation, piece by piece, ending before a stop string.

        No piece splits a character or holds the beginning of a stop string.
        """
        ids = self.ids(self.prompt_ids(prompt), tokens, sampling=sampling, seed=seed)
        yield from text_of((int(token) for token in ids), self.tokenizer, stop)

    def samples(
        self,
        prompt: str = "",
        tokens: int = 500,
        count: int = 1,
        *,
        sampling: Sampling | None = None,
        seed: int = 0,
        stop: Sequence[str] = (),
    ) -> list[str]:
        """Several continuations, made side by side."""
        if tokens < 1 or count < 1:
            raise InputError(f"tokens and count must be at least 1, not {tokens} and {count}.")
        ids = torch.stack(list(self.ids(self.prompt_ids(prompt), tokens, sampling=sampling, seed=seed, count=count)), 1)
        return ["".join(text_of(iter(row), self.tokenizer, stop)) for row in ids.tolist()]


def text_of(ids: Iterator[int], tokenizer: Tokenizer, stop: Sequence[str] = ()) -> Iterator[str]:
    """Ids as text, in pieces that hold whole characters and end before the first stop string."""
    pieces = tokenizer.pieces
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    stop = [s for s in stop if s]
    held = ""
    for token in ids:
        held += decoder.decode(pieces[token])
        found = [at for at in (held.find(s) for s in stop) if at >= 0]
        if found:
            if text := held[: min(found)]:
                yield text
            return
        # A tail that may yet become a stop string waits.
        keep = max((n for s in stop for n in range(1, len(s)) if held.endswith(s[:n])), default=0)
        if text := held[: len(held) - keep]:
            yield text
        held = held[len(held) - keep :]
    if text := held + decoder.decode(b"", final=True):
        yield text
