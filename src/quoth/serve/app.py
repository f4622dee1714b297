"""The server: OpenAI's API over one or several models, a page to play with them, health and metrics."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.middleware.cors import CORSMiddleware

from quoth.serve.metrics import Metrics
from quoth.serve.protocol import ChatBody, CompletionBody
from quoth.serve.requests import Limits, ServedModel, chat_requests, completion_requests
from quoth.serve.responses import Reply, event
from quoth.serve.worker import Answer, BusyError, Worker
from quoth.web.entrance import KeyEntrance
from quoth.web.errors import APIError, add_error_handlers, error_body
from quoth.web.guard import Guard
from quoth.web.site import Site
from quoth.web.working import disconnected

PAGE = Path(__file__).parent / "page"
FAILED = "The engine failed; the server's log says why."
REFUSALS = {400: "Not understood", 401: "No key", 404: "No such model", 408: "Too slow", 413: "Too large", 429: "Busy"}
# Where the engine's thread waits for Python's lock, it gets it after at most so many seconds.
SWITCH = 0.0005
# After so many seconds a client that was sent away may try again.
RETRY_AFTER = 1
# An answer whose time is over is given up after so many seconds more, where the engine's step takes that long.
GRACE = 5.0
# A comment in a stream of events.
KEEP_ALIVE = ": the answer is still being written\n\n"


def create_app(
    models: Sequence[ServedModel],
    limits: Limits | None = None,
    *,
    key: str | None = None,
    hosts: Collection[str] = (),
    origins: Sequence[str] = (),
) -> FastAPI:
    """Make the ASGI application, which any ASGI server can run.

    Args:
        models: what is served, the first one to those who name none.
        limits: what one client may ask for.
        key: what clients have to show, as OpenAI's API key.
        hosts: names that the server answers to besides localhost and addresses.
        origins: whose pages in a browser may use the server; "*" for everybody's.
    """
    limits = limits or Limits()
    worker = Worker([model.engine for model in models], limits.waiting)
    server = Server({model.name: model for model in models}, worker, limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH)
        worker.start()
        yield
        worker.close()
        sys.setswitchinterval(before)

    app = FastAPI(title="quoth", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.server = server
    add_error_handlers(app)
    refusals: dict[int | str, dict[str, Any]] = {code: {"description": what} for code, what in REFUSALS.items()}
    for path, call, methods in (
        ("/v1/models", server.list_models, ["GET"]),
        ("/v1/models/{name:path}", server.tell_model, ["GET"]),
        ("/v1/completions", server.complete, ["POST"]),
        ("/v1/chat/completions", server.chat, ["POST"]),
        ("/health", server.health, ["GET"]),
        ("/metrics", server.tell_metrics, ["GET"]),
    ):
        app.add_api_route(path, call, methods=methods, response_model=None, responses=refusals)
    site = Site(PAGE)
    app.add_api_route("/", site.index, methods=["GET"], response_model=None, include_in_schema=False)
    app.add_api_route("/static/{name}", site.part, methods=["GET"], response_model=None, include_in_schema=False)
    entrance = None if key is None else KeyEntrance(key)
    app.add_middleware(Guard, body=limits.body, seconds=limits.body_seconds, hosts=hosts, entrance=entrance)
    if origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=["*"], max_age=600
        )
    return app


class Server:
    """The routes, and what they share."""

    def __init__(self, models: dict[str, ServedModel], worker: Worker, limits: Limits) -> None:
        self.models, self.worker, self.limits = models, worker, limits
        self.metrics = Metrics(worker)
        self._conversations = {name: TurnTaking(limits.waiting) for name in models}

    async def list_models(self) -> dict[str, Any]:
        """List the models that are served."""
        return {"object": "list", "data": [_described(model) for model in self.models.values()]}

    async def tell_model(self, name: str) -> dict[str, Any]:
        """Describe one model, or all where the address ends in a slash."""
        if not name:
            return await self.list_models()
        return _described(self._model(name))

    async def health(self) -> Response:
        """Tell whether the server works, and how many requests it has."""
        worker = self.worker
        content = {"status": "ok" if worker.alive else "failed", "running": worker.running, "waiting": worker.waiting}
        return JSONResponse(content, 200 if worker.alive else 503)

    async def tell_metrics(self) -> Response:
        """Give the metrics in the format of Prometheus."""
        return PlainTextResponse(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def complete(self, body: CompletionBody, request: Request) -> Response:
        """Continue one or several prompts."""
        model = self._model(body.model)
        asking = await asyncio.to_thread(completion_requests, body, model, self.limits)
        reply = Reply(model, asking, len(body.prompts), chat=False, echoed=bool(body.echo), with_usage=_usage(body))
        return await self._answer(reply, request, bool(body.stream))

    async def chat(self, body: ChatBody, request: Request) -> Response:
        """Answer a conversation."""
        model = self._model(body.model)
        asking = await self._conversations[model.name].ask(chat_requests, body, model, self.limits)
        reply = Reply(model, asking, 1, chat=True, with_usage=_usage(body))
        return await self._answer(reply, request, bool(body.stream))

    def _model(self, name: str) -> ServedModel:
        if not name:
            return next(iter(self.models.values()))
        if model := self.models.get(name):
            return model
        known = ", ".join(self.models)
        raise APIError(404, f"There is no model of that name; there is {known}.", code="model_not_found", param="model")

    async def _answer(self, reply: Reply, request: Request, stream: bool) -> Response:
        kind = "chat" if reply.chat else "completion"
        timer = RequestTimer(self.metrics, reply.model.name, kind)
        try:
            answers = self.worker.submit(reply.model.engine, reply.requests)
        except BusyError as error:
            timer.ended("busy")
            raise _busy() from error
        if stream:
            events = self._events(reply, answers, timer)
            return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        return await self._respond(reply, answers, timer, request)

    async def _respond(self, reply: Reply, answers: list[Answer], timer: RequestTimer, request: Request) -> Response:
        """Respond once all choices are complete, or stop when the client has gone."""
        async with self._under_way(reply, answers, timer):
            done: asyncio.Future[Any] = asyncio.gather(*(_drain(answer, timer) for answer in answers))
            gone: asyncio.Future[Any] = asyncio.ensure_future(disconnected(request))
            try:
                await asyncio.wait({done, gone}, timeout=self.limits.seconds, return_when=asyncio.FIRST_COMPLETED)
                if not done.done() and not gone.done():
                    self.worker.cancel(answers)
                    await asyncio.wait({done, gone}, timeout=GRACE, return_when=asyncio.FIRST_COMPLETED)
                if gone.done() and not done.done():
                    timer.outcome = "gone"
                    return Response(status_code=499)
            finally:
                for task in (done, gone):
                    task.cancel()
            if any(answer.finish == "failed" for answer in answers):
                raise APIError(500, FAILED)
            return JSONResponse(reply.response(answers))

    async def _events(self, reply: Reply, answers: list[Answer], timer: RequestTimer) -> AsyncIterator[str]:
        """Stream all choices as server-sent events, token by token."""
        async with self._under_way(reply, answers, timer):
            came: asyncio.Queue[str | None] = asyncio.Queue(len(answers))
            tasks = [
                asyncio.ensure_future(_chunks(reply, index, answer, timer, came.put))
                for index, answer in enumerate(answers)
            ]
            try:
                async for chunk in self._paced(came, answers):
                    yield chunk
                for index, answer in enumerate(answers):
                    if not answer.finish:
                        yield event(reply.chunk(index, [], "length"))
            finally:
                for task in tasks:
                    task.cancel()
            if reply.with_usage:
                yield event(reply.last(answers))
            yield "data: [DONE]\n\n"

    async def _paced(self, came: asyncio.Queue[str | None], answers: list[Answer]) -> AsyncIterator[str]:
        """Yield events until all answers have ended, and comments where no event comes for long.

        When their time is over, answers are cancelled, which ends them as soon as the engine's step does.
        """
        end, over, left = time.monotonic() + self.limits.seconds, False, len(answers)
        while left:
            wait = min(self.limits.keep_alive_seconds, max(0.0, end - time.monotonic()))
            try:
                chunk = await asyncio.wait_for(came.get(), wait)
            except TimeoutError:
                if time.monotonic() < end:
                    yield KEEP_ALIVE
                elif over:
                    return
                else:
                    self.worker.cancel(answers)
                    end, over = end + GRACE, True
                continue
            left -= chunk is None
            if chunk:
                yield chunk

    @asynccontextmanager
    async def _under_way(self, reply: Reply, answers: list[Answer], timer: RequestTimer) -> AsyncIterator[None]:
        """Give the slots back however the request ends, and count it."""
        try:
            yield
            finishes = {answer.finish for answer in answers}
            timer.outcome = timer.outcome or ("timeout" if finishes & {"", "cancelled"} else "ok")
        finally:
            if any(answer.finish == "failed" for answer in answers):
                timer.outcome = "failed"
            self.worker.cancel(answers)
            used = reply.usage(answers)
            self.metrics.tokens.labels(reply.model.name, "read").inc(used["prompt_tokens"])
            self.metrics.tokens.labels(reply.model.name, "written").inc(used["completion_tokens"])
            timer.ended(timer.outcome or "gone")


class TurnTaking:
    """Does one piece of work after the other in a thread, so that a slow template keeps one thread and not all."""

    def __init__(self, most_waiting: int) -> None:
        self.most_waiting, self._waiting, self._turn = most_waiting, 0, asyncio.Lock()

    async def ask(self, work: Callable[..., Any], *given: Any) -> Any:
        """Wait for a turn, do the work in a thread, and return its result.

        Raises:
            APIError: too many wait for their turn already.
        """
        if self._waiting > self.most_waiting:
            raise _busy()
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(work, *given)
        finally:
            self._waiting -= 1


def _busy() -> APIError:
    said, headers = "Too many requests wait already; try again in a second.", {"Retry-After": str(RETRY_AFTER)}
    return APIError(429, said, code="queue_full", headers=headers)


class RequestTimer:
    """Measures one request: the time to its first token, and to its end."""

    def __init__(self, metrics: Metrics, model: str, kind: str) -> None:
        self.metrics, self.model, self.kind = metrics, model, kind
        self.began, self.spoke, self.outcome = time.monotonic(), False, ""

    def token(self) -> None:
        """Note that a token came; only the first one is measured."""
        if not self.spoke:
            self.spoke = True
            self.metrics.first_token_seconds.labels(self.model).observe(time.monotonic() - self.began)

    def ended(self, outcome: str) -> None:
        """Count the request under its outcome."""
        self.metrics.requests.labels(self.model, self.kind, outcome).inc()
        self.metrics.request_seconds.labels(self.model).observe(time.monotonic() - self.began)


async def _chunks(
    reply: Reply, index: int, answer: Answer, timer: RequestTimer, put: Callable[[str | None], Any]
) -> None:
    """Put the events of one choice into a queue, and None at the end; after a cancellation nothing more is put."""
    try:
        first = True
        async for tokens in answer.stream():
            timer.token()
            if first and reply.echoed:
                await put(event(reply.echo(index, answer)))
            await put(event(reply.chunk(index, tokens, None, first=first)))
            first = False
        if answer.finish == "failed":
            await put(event(error_body(500, FAILED)))
        else:
            if first and reply.echoed:
                await put(event(reply.echo(index, answer)))
            await put(event(reply.chunk(index, [], answer.finish, first=first)))
    except Exception:
        logging.getLogger(__name__).exception("An answer could not be written down.")
        await put(event(error_body(500, FAILED)))
    await put(None)


async def _drain(answer: Answer, timer: RequestTimer) -> None:
    async for _ in answer.stream():
        timer.token()


def _usage(body: CompletionBody | ChatBody) -> bool:
    return bool(body.stream_options and body.stream_options.include_usage)


def _described(model: ServedModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "quoth",
        "context": model.engine.context,
        "vocabulary": model.engine.tokenizer.vocabulary,
        "chats": model.template is not None,
    }
