"""The server: OpenAI's API over one or several models, a page to play with them, health and metrics."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from quoth.serve.answers import Reply, event
from quoth.serve.asked import Limits, Served, chat_requests, completion_requests
from quoth.serve.errors import APIError, as_object, tell_fault, tell_http, tell_input, tell_invalid, tell_refusal
from quoth.serve.guard import Guard
from quoth.serve.metrics import Metrics
from quoth.serve.protocol import ChatAsked, CompletionAsked
from quoth.serve.site import Site
from quoth.serve.worker import Answer, BusyError, Worker
from quoth.system.errors import InputError

FAILED = "The engine failed; the server's log says why."
REFUSALS = {400: "Not understood", 401: "No key", 404: "No such model", 413: "Too large", 429: "Busy"}
# Where the engine's thread waits for Python's lock, it gets it after at most so many seconds.
SWITCH = 0.0005
# After so many seconds a client that was sent away may try again.
RETRY_AFTER = 1


def create_app(
    models: Sequence[Served],
    limits: Limits | None = None,
    *,
    key: str | None = None,
    hosts: Collection[str] = (),
) -> FastAPI:
    """The ASGI application; any server of such can run it.

    Args:
        models: what is served, the first one to those who name none.
        limits: what one client may ask for.
        key: what clients have to show, as OpenAI's API key.
        hosts: names that the server answers to besides localhost and addresses.
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
    for kind, handler in (
        (APIError, tell_refusal),
        (InputError, tell_input),
        (RequestValidationError, tell_invalid),
        (HTTPException, tell_http),
        (Exception, tell_fault),
    ):
        app.add_exception_handler(kind, handler)
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
    site = Site()
    app.add_api_route("/", site.index, methods=["GET"], response_model=None, include_in_schema=False)
    app.add_api_route("/static/{name}", site.part, methods=["GET"], response_model=None, include_in_schema=False)
    app.add_middleware(Guard, body=limits.body, hosts=hosts, key=key)
    return app


class Server:
    """The routes, and what they share."""

    def __init__(self, models: dict[str, Served], worker: Worker, limits: Limits) -> None:
        self.models, self.worker, self.limits = models, worker, limits
        self.metrics = Metrics(worker)

    async def list_models(self) -> dict[str, Any]:
        """The models that are served."""
        return {"object": "list", "data": [_described(model) for model in self.models.values()]}

    async def tell_model(self, name: str) -> dict[str, Any]:
        """One of them."""
        return _described(self._model(name))

    async def health(self) -> Response:
        """Whether it answers, and how much it has to do."""
        worker = self.worker
        content = {"status": "ok" if worker.alive else "failed", "running": worker.running, "waiting": worker.waiting}
        return JSONResponse(content, 200 if worker.alive else 503)

    async def tell_metrics(self) -> Response:
        """For Prometheus."""
        return PlainTextResponse(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def complete(self, asked: CompletionAsked, request: Request) -> Response:
        """Continue one or several prompts."""
        model = self._model(asked.model)
        asking = await asyncio.to_thread(completion_requests, asked, model, self.limits)
        reply = Reply(model, asking, len(asked.prompts), chat=False, echoed=bool(asked.echo), with_usage=_usage(asked))
        return await self._answer(reply, request, bool(asked.stream))

    async def chat(self, asked: ChatAsked, request: Request) -> Response:
        """Answer a conversation."""
        model = self._model(asked.model)
        asking = await asyncio.to_thread(chat_requests, asked, model, self.limits)
        reply = Reply(model, asking, 1, chat=True, with_usage=_usage(asked))
        return await self._answer(reply, request, bool(asked.stream))

    def _model(self, name: str) -> Served:
        if not name:
            return next(iter(self.models.values()))
        if model := self.models.get(name):
            return model
        known = ", ".join(self.models)
        raise APIError(404, f"There is no model of that name; there is {known}.", code="model_not_found", param="model")

    async def _answer(self, reply: Reply, request: Request, stream: bool) -> Response:
        kind = "chat" if reply.chat else "completion"
        watch = Watch(self.metrics, reply.model.name, kind)
        try:
            answers = self.worker.submit(reply.model.engine, reply.requests)
        except BusyError as error:
            watch.ended("busy")
            raise APIError(
                429, "Too many requests wait already; try again in a second.", code="queue_full",
                headers={"Retry-After": str(RETRY_AFTER)},
            ) from error  # fmt: skip
        if stream:
            events = self._events(reply, answers, watch)
            return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        return await self._whole(reply, answers, watch, request)

    async def _whole(self, reply: Reply, answers: list[Answer], watch: Watch, request: Request) -> Response:
        """All at once; nothing, where the client goes meanwhile."""
        async with self._under_way(reply, answers, watch):
            done: asyncio.Future[Any] = asyncio.gather(*(_drain(answer, watch) for answer in answers))
            gone: asyncio.Future[Any] = asyncio.ensure_future(_disconnected(request))
            try:
                await asyncio.wait({done, gone}, timeout=self.limits.seconds, return_when=asyncio.FIRST_COMPLETED)
                if gone.done() and not done.done():
                    watch.outcome = "gone"
                    return Response(status_code=499)
            finally:
                for task in (done, gone):
                    task.cancel()
            if any(answer.finish == "failed" for answer in answers):
                raise APIError(500, FAILED)
            finishes = [answer.finish or "length" for answer in answers]
            return JSONResponse(reply.whole([answer.generation for answer in answers], finishes))

    async def _events(self, reply: Reply, answers: list[Answer], watch: Watch) -> AsyncIterator[str]:
        """Server-sent events, of all choices as they come."""
        generations = [answer.generation for answer in answers]
        async with self._under_way(reply, answers, watch):
            came: asyncio.Queue[str | None] = asyncio.Queue(len(answers))
            tasks = [
                asyncio.ensure_future(_chunks(reply, index, answer, watch, came.put))
                for index, answer in enumerate(answers)
            ]
            end = time.monotonic() + self.limits.seconds
            try:
                left = len(tasks)
                while left:
                    chunk = await asyncio.wait_for(came.get(), max(0.0, end - time.monotonic()))
                    left -= chunk is None
                    if chunk:
                        yield chunk
            except TimeoutError:
                for index, answer in enumerate(answers):
                    if not answer.finish:
                        yield event(reply.chunk(index, [], "length"))
            finally:
                for task in tasks:
                    task.cancel()
            if reply.with_usage:
                yield event(reply.last(generations))
            yield "data: [DONE]\n\n"

    @asynccontextmanager
    async def _under_way(self, reply: Reply, answers: list[Answer], watch: Watch) -> AsyncIterator[None]:
        """Give the slots back however it ends, and count."""
        try:
            yield
            finishes = {answer.finish for answer in answers}
            watch.outcome = watch.outcome or ("timeout" if "" in finishes else "ok")
        finally:
            if any(answer.finish == "failed" for answer in answers):
                watch.outcome = "failed"
            self.worker.cancel(answers)
            used = reply.usage([answer.generation for answer in answers])
            self.metrics.tokens.labels(reply.model.name, "read").inc(used["prompt_tokens"])
            self.metrics.tokens.labels(reply.model.name, "written").inc(used["completion_tokens"])
            watch.ended(watch.outcome or "gone")


class Watch:
    """The times of one request."""

    def __init__(self, metrics: Metrics, model: str, kind: str) -> None:
        self.metrics, self.model, self.kind = metrics, model, kind
        self.began, self.spoke, self.outcome = time.monotonic(), False, ""

    def token(self) -> None:
        """Something came; only the first time counts."""
        if not self.spoke:
            self.spoke = True
            self.metrics.first.labels(self.model).observe(time.monotonic() - self.began)

    def ended(self, outcome: str) -> None:
        """Count it."""
        self.metrics.requests.labels(self.model, self.kind, outcome).inc()
        self.metrics.whole.labels(self.model).observe(time.monotonic() - self.began)


async def _chunks(reply: Reply, index: int, answer: Answer, watch: Watch, put: Callable[[str | None], Any]) -> None:
    """Put the events of one choice, and at its end None; nothing more once this is cancelled, for nobody takes it."""
    try:
        first = True
        async for tokens in answer.tokens():
            watch.token()
            if first and reply.echoed:
                await put(event(reply.echo(index, answer.generation)))
            await put(event(reply.chunk(index, tokens, None, first=first)))
            first = False
        if answer.finish == "failed":
            await put(event(as_object(500, FAILED)))
        else:
            if first and reply.echoed:
                await put(event(reply.echo(index, answer.generation)))
            await put(event(reply.chunk(index, [], answer.finish, first=first)))
    except Exception:
        logging.getLogger(__name__).exception("An answer could not be written down.")
        await put(event(as_object(500, FAILED)))
    await put(None)


async def _drain(answer: Answer, watch: Watch) -> None:
    async for _ in answer.tokens():
        watch.token()


async def _disconnected(request: Request) -> None:
    """Until the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _usage(asked: CompletionAsked | ChatAsked) -> bool:
    return bool(asked.stream_options and asked.stream_options.include_usage)


def _described(model: Served) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "quoth",
        "context": model.engine.context,
        "vocabulary": model.engine.tokenizer.vocabulary,
        "chats": model.template is not None,
    }
