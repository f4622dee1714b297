"""The only code that samples: weights and prompts in, streams of text out."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence

from torch import Tensor

from quoth.generate.decoder import Decoder, TorchDecoder, windowed
from quoth.generate.draw_tokens import DrawTask, chances, draw_each
from quoth.generate.make_decoder import make_decoder
from quoth.generate.native.decoder import NativeDecoder, Weights, can_decode
from quoth.generate.request import Generation, Request, Token
from quoth.generate.sampling import Sampling
from quoth.generate.slots import GUESSES, STRETCH, Slots, batch_of
from quoth.model.gpt import GPT
from quoth.system.errors import InputError
from quoth.text.tokenizer import Tokenizer


class Engine:
    """Answers requests, several at a time: they come and go, and each step moves all that are under way.

    A request's answer depends on nothing but the request. When a window is full, its newer half is read again and
    the older is forgotten; for blocks that keep no cache (`cached=False`) all but the oldest token is.

    >>> engine = Engine(model, tokenizer)                                  # doctest: +SKIP
    >>> for text in engine.stream("ROMEO:", tokens=200, seed=1): print(text, end="")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        *,
        slots: int = 1,
        weights: Weights = "float32",
        threads: int = 0,
        compiled: bool | None = None,
        cached: bool = True,
        context: int = 0,
    ) -> None:
        """Slots are how many requests move at once. See `make_decoder` for the others."""
        self.tokenizer, self.context = tokenizer, context or model.config.context
        rows = _rows(slots)
        self.decoder: Decoder = make_decoder(
            model, slots, rows, weights=weights, threads=threads, compiled=compiled, cached=cached, context=context
        )
        self.slots = Slots(self.decoder, self.context)
        self.waiting: deque[Generation] = deque()
        self.moved: list[tuple[Generation, Token | None]] = []
        self._lock = threading.Lock()

    @staticmethod
    def memory_bytes(
        model: GPT, slots: int, *, weights: Weights = "float32", compiled: bool = True, context: int = 0
    ) -> int:
        """How many bytes an engine would take beside the model, before one is made; most are the slots' caches."""
        c = windowed(model.config, context)
        if compiled and can_decode(model):
            return NativeDecoder.memory_bytes(c, slots, _rows(slots), weights)
        return TorchDecoder.memory_bytes(c, slots, _rows(slots), model.embed.weight.element_size())

    def prompt_ids(self, prompt: str) -> list[int]:
        """The prompt's ids, after those that texts begin with; without either a line break, if there is one.

        Raises:
            InputError: a character that the tokenizer does not know.
        """
        if prompt:
            return [*self.tokenizer.begins, *self.tokenizer.encode(prompt).tolist()]
        if self.tokenizer.begins:
            return list(self.tokenizer.begins)
        pieces = self.tokenizer.pieces
        return [pieces.index(b"\n") if b"\n" in pieces else 0]

    def submit(self, request: Request) -> Generation:
        """Put a request at the end of the queue. Another thread may do this while one steps.

        Raises:
            InputError: its prompt has an id that is no token.
        """
        if not 0 <= min(request.prompt) <= max(request.prompt) < self.tokenizer.vocabulary:
            raise InputError(f"A prompt's ids must lie in 0 to {self.tokenizer.vocabulary - 1}.")
        generation = Generation(request, self.tokenizer, self.context)
        with self._lock:
            self.waiting.append(generation)
        return generation

    @property
    def busy(self) -> bool:
        """Whether a step has anything to do."""
        return bool(self.waiting) or any(self.slots.running)

    def step(self) -> list[tuple[Generation, Token | None]]:
        """Move all that are under way by a token, or by a stretch of a prompt; what came of it.

        A token is None where a request ended without one: it was cancelled, or asked only for its prompt's chances.
        """
        moved: list[tuple[Generation, Token | None]] = []
        self.moved = moved
        with self._lock:
            dropped = self.slots.drop_cancelled(self.waiting)
            self.slots.admit(self.waiting)
        moved += [(generation, None) for generation in dropped]
        if not (chunks := self.slots.schedule()):
            return moved
        logit_RV = self.decoder.step(batch_of(chunks))
        ready, at = [], 0
        for chunk in chunks:
            generation = chunk.generation
            if generation.request.echo and not generation.answer:
                follow = generation.window[generation.read + 1 :][: len(chunk.tokens)]
                told = chances(logit_RV[at : at + len(follow)], follow, generation.request.logprobs or 0)
                generation.prompt_chances += told
            at += chunk.wanted
            if chunk.ready:
                ready.append(DrawTask(generation, chunk.guessed, at - 1 - len(chunk.guessed)))
            self.slots.done(chunk)
        for one, drawn in zip(ready, draw_each(self.decoder, logit_RV, ready), strict=True):
            self._take(one, drawn, logit_RV)
        return moved

    def _take(self, ready: DrawTask, drawn: list[int], logit_RV: Tensor) -> None:
        """Add the drawn tokens, as long as those before them were guessed rightly."""
        generation = ready.generation
        if generation.request.tokens < 1:
            generation.finish = "length"
            self.moved.append((generation, None))
        for n, token in enumerate(drawn):
            if generation.finish:
                break
            top = generation.request.logprobs
            chance = None if top is None else chances(logit_RV[ready.rows[n]][None], [token], top)[0]
            self.moved.append((generation, generation.take(token, chance)))
            self.slots.grow(generation, token)
            if [token] != ready.guessed[n : n + 1]:
                break
        if generation.finish:
            self.slots.free(generation)

    def drop_running(self) -> list[tuple[Generation, Token | None]]:
        """Give up all that are under way, after a step has failed: what came of it until then, and those.

        What was read is not trusted any more; those that wait go on waiting.
        """
        dropped = [generation for generation in self.slots.running if generation]
        self.slots = Slots(self.decoder, self.context)
        for generation in dropped:
            generation.finish = "failed"
        return [*self.moved, *((generation, None) for generation in dropped)]

    def reload(self, model: GPT) -> None:
        """Take the weights of another model, of the same shape, in milliseconds; the slots stay.

        What was read is forgotten, so that answers are, to the bit, those of an engine made anew. Requests that wait
        for a slot are answered by the new weights. See `Decoder.reload` for what a decoder without compiled code shares
        with the model.

        Raises:
            InputError: a request is under way (let it end, or call `drop_running`), or the model has another shape,
                number type or device; then nothing has changed.
        """
        if under_way := sum(1 for one in self.slots.running if one and not one.cancelled):
            raise InputError(f"Weights cannot be reloaded while requests are under way; there are {under_way}.")
        self.decoder.reload(model)
        self.slots.forget()

    def run(self, request: Request) -> Iterator[Token]:
        """The tokens of one request as they come; others that are under way move along."""
        generation = self.submit(request)
        try:
            while not generation.finish:
                for moved, token in self.step():
                    if moved is generation and token:
                        yield token
        finally:
            generation.cancelled = True

    def generate(self, requests: Sequence[Request]) -> list[Generation]:
        """The answers to several requests, side by side as far as there are slots."""
        generations = [self.submit(request) for request in requests]
        while not all(generation.finish for generation in generations):
            self.step()
        return generations

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
        request = Request(
            prompt=self.prompt_ids(prompt), tokens=tokens, sampling=sampling or Sampling(), seed=seed, stop=stop
        )
        for token in self.run(request):
            if token.text:
                yield token.text

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
        """Several continuations, made side by side as far as there are slots."""
        if count < 1:
            raise InputError(f"count must be at least 1, not {count}.")
        ids, sampling = self.prompt_ids(prompt), sampling or Sampling()
        requests = [
            Request(prompt=ids, tokens=tokens, sampling=sampling, seed=seed, choice=choice, stop=stop)
            for choice in range(count)
        ]
        return [generation.text for generation in self.generate(requests)]


def _rows(slots: int) -> int:
    """How many rows a step takes: each slot's next token and its guesses, and some stretches of prompts."""
    return slots * (1 + GUESSES) + 4 * STRETCH
