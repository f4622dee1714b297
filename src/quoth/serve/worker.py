"""The thread that steps the engines, and the bridge from it to the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Sequence

from quoth.generate.engine import Engine
from quoth.generate.request import Finish, Generation, Request, Token
from quoth.system.errors import InputError

# To write an event costs nearly as much as a token of a small model. The more requests there are, the more of their
# tokens go into one: those of so many seconds for each request. First and last ones never wait.
TOGETHER = 0.001


class BusyError(Exception):
    """Too many requests wait already."""


class Answer:
    """The answer to one request as it grows, for a reader in the event loop.

    The engine's thread goes on writing to the generation; what is answered is made of what was given here.

    Attributes:
        tokens: what has come so far, with the token that the answer ended at.
        finish: how it ended, "" before.
    """

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self.tokens: list[Token] = []
        self.finish: Finish = ""
        self._came: list[Token] = []
        self._news = asyncio.Event()

    def give(self, token: Token | None, finish: Finish) -> None:
        """Add what a step of the engine brought; call it in the event loop."""
        if token:
            self.tokens.append(token)
            self._came.append(token)
        self.finish = finish
        self._news.set()

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(token.text for token in self.tokens)

    @property
    def written(self) -> list[Token]:
        """The tokens so far, without the one that the answer ended at."""
        return [token for token in self.tokens if token.id not in self.generation.request.stop_ids]

    async def stream(self) -> AsyncIterator[list[Token]]:
        """Yield the tokens that came since the last time, until the answer has ended."""
        while True:
            await self._news.wait()
            self._news.clear()
            came, self._came = self._came, []
            ended = bool(self.finish)
            if came:
                yield came
            if ended:
                return


class Worker:
    """Steps several engines in one thread, one after the other, as long as any has work.

    >>> worker = Worker([engine], most_waiting=64)                         # doctest: +SKIP
    >>> (answer,) = worker.submit(engine, [Request(prompt=[1])])           # doctest: +SKIP
    >>> async for tokens in answer.stream(): ...                           # doctest: +SKIP
    """

    def __init__(self, engines: Sequence[Engine], most_waiting: int) -> None:
        self.engines, self.most_waiting = list(engines), most_waiting
        self._answers: dict[Generation, Answer] = {}
        self._work, self._closed = threading.Condition(), False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)

    def start(self) -> None:
        """Begin; call it in the event loop that will wait for answers."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def close(self) -> None:
        """Drop all that is under way and end the thread."""
        with self._work:
            self._closed = True
            self._work.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the thread still steps; it ends only by `close`, or by a fault."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """How many requests wait for a slot."""
        return sum(len(engine.waiting) for engine in self.engines)

    @property
    def running(self) -> int:
        """How many requests have one."""
        return sum(generation is not None for engine in self.engines for generation in engine.slots.running)

    def submit(self, engine: Engine, requests: Sequence[Request]) -> list[Answer]:
        """Put requests into an engine's queue; call it in the event loop.

        Raises:
            BusyError: there is no room for all of them now.
            InputError: there never is.
        """
        if len(requests) > (most := len(engine.slots.running) + self.most_waiting):
            raise InputError(f"At most {most} answers can be asked for at once, not {len(requests)}.")
        free = engine.slots.running.count(None)
        if len(engine.waiting) + len(requests) > free + self.most_waiting:
            raise BusyError
        answers = []
        with self._work:
            for request in requests:
                generation = engine.submit(request)
                answer = self._answers[generation] = Answer(generation)
                answers.append(answer)
            self._work.notify()
        return answers

    def cancel(self, answers: Sequence[Answer]) -> None:
        """Drop answers that are still under way; those that have ended are left as they are."""
        with self._work:
            for answer in answers:
                if not answer.finish:
                    answer.generation.cancelled = True
            self._work.notify()

    def _serve(self) -> None:
        came: list[tuple[Generation, Token | None, Finish]] = []
        told = time.monotonic()
        while True:
            with self._work:
                while not self._closed and not any(engine.busy for engine in self.engines):
                    self._work.wait()
                if self._closed:
                    return
            came += [one for engine in self.engines if engine.busy for one in self._step(engine)]
            if (now := time.monotonic()) - told > TOGETHER * self.running:
                give, came, told = came, [], now
            else:
                urgent = {generation for generation, _, finish in came if finish or len(generation.answer) < 2}
                give = [one for one in came if one[0] in urgent]
                came = [one for one in came if one[0] not in urgent] if urgent else came
            if give and self._loop:
                self._loop.call_soon_threadsafe(self._deliver, give)

    def _step(self, engine: Engine) -> list[tuple[Generation, Token | None, Finish]]:
        """Step an engine; where the step fails, its requests fail, and later ones are served."""
        try:
            return [(generation, token, generation.finish) for generation, token in engine.step()]
        except Exception:
            logging.getLogger(__name__).exception("A step of the engine failed; its requests are dropped.")
            return [(generation, token, generation.finish) for generation, token in engine.drop_running()]

    def _deliver(self, moved: list[tuple[Generation, Token | None, Finish]]) -> None:
        for generation, token, finish in moved:
            if answer := self._answers.get(generation):
                answer.give(token, finish)
                if finish:
                    del self._answers[generation]
