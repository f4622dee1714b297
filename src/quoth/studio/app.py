"""The studio: a local web application over one run, which reads its files and writes none of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field

from quoth.generate.sampling import Sampling
from quoth.studio.live import LogFollower, follow
from quoth.studio.looking import GoOn, each_off, example, hangs_on, look, one_head, same_passages, written
from quoth.studio.opened import OpenRun
from quoth.studio.record import read_record, readings
from quoth.system.errors import Interrupted
from quoth.web.connection import ConnectionLimits
from quoth.web.entrance import CookieEntrance
from quoth.web.errors import add_error_handlers
from quoth.web.guard import Guard
from quoth.web.site import VENDOR, Site
from quoth.web.working import compute

FOLDER = Path(__file__).parent / "site"
SHARED = [VENDOR / name for name in ("preact.js", "hooks.js", "htm.js", "uplot.js", "uplot.css")]
CLOSED = """<!doctype html><html lang="en"><meta charset="utf-8"><title>quoth studio</title>
<h1>This page is not open to this browser</h1>
<p>Open the address that <code>quoth studio</code> shows in its terminal. Each address works once; when one was used,
the terminal shows the next.</p></html>"""
Parts = Annotated[list[Annotated[str, Field(max_length=40)]], Field(max_length=4096)]


class LookBody(BaseModel):
    """A text that is looked at, by the model of a step without some parts."""

    model_config = ConfigDict(extra="forbid", strict=True)

    step: int
    text: Annotated[str, Field(max_length=1_000_000)]
    off: Parts = []


class HeadBody(LookBody):
    """One head that is looked at."""

    head: Annotated[str, Field(max_length=40)]


class PlaceBody(LookBody):
    """A place in the text."""

    place: Annotated[int, Field(ge=0)]


class WriteBody(LookBody):
    """What is to be written after the text."""

    tokens: Annotated[int, Field(ge=1, le=1000)] = 200
    temperature: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False, strict=False)] = 0.8
    top_k: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1


class Studio:
    """The addresses under /api."""

    def __init__(self, run: OpenRun, goes_on: Callable[[], bool]) -> None:
        self.run, self.goes_on = run, goes_on
        # One thread alone uses the model; another one reads the training text.
        self.model_thread, self.text_thread = ThreadPoolExecutor(1), ThreadPoolExecutor(1)

    async def tell(self, request: Request) -> dict[str, Any]:
        """Describe the run: its shape, its moments, its curves, and a text to begin with."""
        return await compute(request, self.text_thread, lambda go_on: described(self.run))

    async def look(self, body: LookBody, request: Request) -> Response:
        """Tell what happens in the model as it reads a text."""
        return await self._packed(request, lambda go_on: look(self.run, body.step, body.text, body.off, go_on))

    async def one_head(self, body: HeadBody, request: Request) -> Response:
        """Tell what one head attends to."""
        return await self._packed(
            request, lambda go_on: one_head(self.run, body.step, body.text, body.off, body.head, go_on)
        )

    async def each_off(self, body: LookBody, request: Request) -> Response:
        """Tell how much worse the model predicts a text without each of its parts."""
        return await self._packed(request, lambda go_on: each_off(self.run, body.step, body.text, body.off, go_on))

    async def hangs_on(self, body: PlaceBody, request: Request) -> Response:
        """Tell what a prediction hangs on."""
        return await self._packed(request, lambda go_on: hangs_on(self.run, body.step, body.text, body.off, body.place))

    async def passages(self, body: PlaceBody, request: Request) -> dict[str, Any]:
        """Find passages of the training text that go the same way."""
        return await compute(
            request, self.text_thread, lambda go_on: same_passages(self.run, body.text, body.place, go_on)
        )

    async def write(self, body: WriteBody, request: Request) -> dict[str, Any]:
        """Write on."""
        sampling = Sampling(temperature=body.temperature, top_k=body.top_k)

        def work(go_on: GoOn) -> dict[str, Any]:
            return written(self.run, body.step, body.text, body.off, body.tokens, sampling, body.seed, go_on)

        return await compute(request, self.model_thread, work)

    async def live(
        self, place: str = "", last_event_id: Annotated[str, Header()] = ""
    ) -> AsyncIterator[ServerSentEvent]:
        """Tell what happens to the run, from a place in its log on."""
        async for event in follow(self.run.folder, last_event_id or place, self.goes_on):
            yield event

    async def _packed(self, request: Request, work: Callable[[GoOn], bytes]) -> Response:
        block = await compute(request, self.model_thread, work)
        return Response(block, media_type="application/octet-stream", headers={"Cache-Control": "no-store"})


def described(run: OpenRun) -> dict[str, Any]:
    """What the page shows first."""
    place = LogFollower(run.folder / "metrics.jsonl").skip()  # A line that comes meanwhile is told twice.
    record, config = read_record(run.folder), run.model.config
    curves = {
        name: [(reading.step, reading.value) for reading in readings(record.lines, name)]
        for name in ("loss", "validation_loss")
    }
    facts = {name: record.facts.get(name) for name in ("data", "tokenizer")}
    shape = {name: getattr(config, name) for name in ("layers", "heads", "width", "context")}
    return {
        "name": run.folder.resolve().name,
        **facts,
        **shape,
        "parameters": run.model.parameters_count,
        "moments": run.steps(),
        "curves": curves,
        "notes": [[line.get("step"), str(line["note"])] for line in record.lines if "note" in line],
        "place": place,
        "example": example(run),
    }


def create_studio_app(
    run: OpenRun, entrance: CookieEntrance, limits: ConnectionLimits | None = None, hosts: Collection[str] = ()
) -> FastAPI:
    """Make the ASGI application of a studio over one run, which any ASGI server can run.

    A page follows a run by a request that never ends, unless `app.state.goes_on`, which may be set, returns false.
    """
    limits = limits or ConnectionLimits()
    app = FastAPI(title="quoth", docs_url=None, redoc_url=None, openapi_url=None)
    add_error_handlers(app)
    app.add_exception_handler(Interrupted, _gone)
    app.state.goes_on = lambda: True
    studio, site = Studio(run, lambda: app.state.goes_on()), Site(FOLDER, SHARED)

    async def index(request: Request, code: str = "") -> Response:
        known = entrance.knows(request.headers)
        if not known and not entrance.opens(code):
            return Response(CLOSED, 403, headers=site.headers, media_type="text/html")
        page = await site.index()
        if not known:
            entrance.let_in(page)
        return page

    for path, call, method in (
        ("/", index, "GET"),
        ("/static/{name}", site.part, "GET"),
        ("/api/run", studio.tell, "GET"),
        ("/api/look", studio.look, "POST"),
        ("/api/head", studio.one_head, "POST"),
        ("/api/each-off", studio.each_off, "POST"),
        ("/api/saliency", studio.hangs_on, "POST"),
        ("/api/passages", studio.passages, "POST"),
        ("/api/write", studio.write, "POST"),
    ):
        app.add_api_route(path, call, methods=[method], response_model=None)
    app.add_api_route("/api/live", studio.live, response_class=EventSourceResponse, response_model=None)
    app.add_middleware(Guard, body=limits.body, seconds=limits.body_seconds, hosts=hosts, entrance=entrance)
    return app


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)
