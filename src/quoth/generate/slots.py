"""Who moves in a step: requests come into free slots, and put tokens of their windows into the rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from quoth.generate.decoder import Batch, Decoder
from quoth.generate.prompt_lookup import guess
from quoth.generate.request import Generation

# A prompt is read in stretches of so many tokens, so that those who are writing do not wait long.
STRETCH = 64
# So many tokens are guessed at once, at most.
GUESSES = 8


@dataclass
class Chunk:
    """A request's share of a step: the tokens that its slot reads next, and those guessed to follow them.

    The logits of the last `wanted` of both are asked for.
    """

    generation: Generation
    tokens: list[int]
    guessed: list[int]
    wanted: int

    @property
    def ready(self) -> bool:
        """Whether the whole window is read with it, so that the next token can be drawn."""
        return self.generation.read + len(self.tokens) == len(self.generation.window)


class Slots:
    """The requests that are under way, and what each slot has read."""

    def __init__(self, decoder: Decoder, context: int) -> None:
        self.decoder, self.context = decoder, context
        self.running: list[Generation | None] = [None] * decoder.slots
        # What a slot has read stays there after its request; the next one may begin with the same.
        self.memory: list[list[int]] = [[] for _ in self.running]
        # Which slot reads what another one waits for, to copy it.
        self.awaited: dict[int, int] = {}

    def drop_cancelled(self, waiting: deque[Generation]) -> list[Generation]:
        """Free the slots of requests that were cancelled, and their places in the queue."""
        running = [g for g in self.running if g and g.cancelled]
        queued = [g for g in waiting if g.cancelled]
        for generation in running:
            self.free(generation)
        for generation in queued:
            waiting.remove(generation)
        for generation in (dropped := running + queued):
            generation.finish = "cancelled"
        return dropped

    def forget(self) -> None:
        """Read anew whatever comes next: what the slots hold belongs to other weights."""
        for memory in self.memory:
            memory.clear()

    def free(self, generation: Generation) -> None:
        self.running[generation.slot] = None
        self.awaited.pop(generation.slot, None)

    def admit(self, waiting: deque[Generation]) -> None:
        """Give free slots to those that wait longest."""
        while waiting and not all(self.running):
            generation = waiting.popleft()
            known = {slot: self._known(slot, generation) for slot, there in enumerate(self.running) if not there}
            generation.slot = max(known, key=lambda slot: known[slot])
            generation.read = known[generation.slot]
            self._copy(generation, range(len(self.memory)))
            # What comes after is written over, wherever the next step is cut off.
            del self.memory[generation.slot][generation.read :]
            self.running[generation.slot] = generation

    def schedule(self) -> list[Chunk]:
        """Who reads what next: those who write come first, then stretches of prompts as far as there is room."""
        chunks, room = list[Chunk](), self.decoder.rows
        active = sorted((g for g in self.running if g), key=lambda g: len(g.window) - g.read > 1)
        for generation in active:
            if generation.slot in self.awaited:
                self._copy(generation, [self.awaited.pop(generation.slot)])
            if self._waits(generation, chunks):
                continue
            window, read = generation.window, generation.read
            tokens = window[read : read + STRETCH]
            guessed = self._guess(generation) if len(window) - read == 1 else []
            if len(tokens) + len(guessed) > room:
                break
            told = generation.request.echo and not generation.answer
            last = read + len(tokens) == len(window)
            chunks.append(Chunk(generation, tokens, guessed, len(tokens) if told else last * (1 + len(guessed))))
            room -= len(tokens) + len(guessed)
        return chunks

    def done(self, chunk: Chunk) -> None:
        """Note that a slot has read what it was given."""
        chunk.generation.read += len(chunk.tokens)
        self.memory[chunk.generation.slot] += chunk.tokens

    def grow(self, generation: Generation, token: int) -> None:
        """Put a drawn token at the end of the window; past the context only its newer part is kept, to be read anew."""
        memory = self.memory[generation.slot]
        memory += generation.window[len(memory) :]
        generation.read = len(generation.window)
        generation.window.append(token)
        if len(generation.window) > self.context:
            generation.window, generation.read = generation.window[-self.decoder.keep :], 0
            memory.clear()

    def _known(self, slot: int, generation: Generation) -> int:
        """How many of a window's first tokens a slot has read; the last is always read anew, for its logits."""
        if not self.decoder.exact or generation.request.echo:
            return 0
        return common(self.memory[slot], generation.window[:-1])

    def _copy(self, generation: Generation, slots: Iterable[int]) -> None:
        """Take over what one of these slots has read of the window, where it has read more of it."""
        if not self.decoder.exact or generation.request.echo:
            return
        slot, most = generation.slot, generation.read
        for other in slots:
            if len(self.memory[other]) > most and (known := self._known(other, generation)) > most:
                slot, most = other, known
        if slot != generation.slot:
            self.decoder.copy(slot, generation.slot, most)
            self.memory[generation.slot], generation.read = generation.window[:most], most

    def _waits(self, generation: Generation, chunks: Sequence[Chunk]) -> bool:
        """Whether another request reads, in this step, at least half of what this one would; it then waits for it."""
        stretch = min(STRETCH, len(generation.window) - generation.read)
        if stretch == 1 or not self.decoder.exact or generation.request.echo:
            return False
        for chunk in chunks:
            other = chunk.generation
            soon, enough = other.read + len(chunk.tokens), generation.read + stretch / 2
            if soon >= enough and common(other.window[:soon], generation.window[:-1]) >= enough:
                self.awaited[generation.slot] = other.slot
                return True
        return False

    def _guess(self, generation: Generation) -> list[int]:
        request, window = generation.request, generation.window
        if request.echo and not generation.answer:
            return []
        left = min(request.lookup, GUESSES, self.context - len(window), request.tokens - len(generation.answer) - 1)
        return guess(window, left) if left > 0 else []


def batch_of(chunks: Sequence[Chunk]) -> Batch:
    """The rows that a decoder takes in for these chunks."""
    batch = Batch()
    for chunk in chunks:
        batch.add(chunk.generation.slot, chunk.generation.read, chunk.tokens + chunk.guessed, chunk.wanted)
    return batch


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
