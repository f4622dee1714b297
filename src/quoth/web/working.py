"""Long computations for clients, which end when the client has gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from fastapi import Request

from quoth.system.errors import Interrupted

T = TypeVar("T")


async def disconnected(request: Request) -> None:
    """Wait until a client whose request was read has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def compute(request: Request, executor: Executor, work: Callable[[Callable[[], bool]], T]) -> T:
    """Let an executor do some work, whose argument is a function that returns whether the client is still there.

    Raises:
        Interrupted: the client has gone, and the work has ended for it, or not begun.
    """
    gone = threading.Event()

    def worked() -> T:
        if gone.is_set():
            raise Interrupted
        return work(lambda: not gone.is_set())

    done: asyncio.Future[Any] = asyncio.get_running_loop().run_in_executor(executor, worked)
    left: asyncio.Future[Any] = asyncio.ensure_future(disconnected(request))
    try:
        await asyncio.wait({done, left}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        left.cancel()
        if not done.done():
            gone.set()
    found: T = await done
    return found
