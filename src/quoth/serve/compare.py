"""A page on which a person compares answers of models: the web application, which knows of no model itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal, Protocol

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from quoth.serve.app import PAGE
from quoth.serve.requests import Limits
from quoth.web.errors import add_error_handlers
from quoth.web.guard import Guard
from quoth.web.site import Site

FOLDER = PAGE.with_name("compare_page")
# Files that the page has in common with the one of `quoth serve`.
SHARED = [PAGE / "style.css", PAGE / "api.js"]


class Body(BaseModel):
    """What all bodies have in common: a field that nobody knows is a mistake."""

    model_config = ConfigDict(extra="forbid", strict=True)


class DecisionBody(Body):
    """What a person says of the comparison of that number, after so many seconds."""

    number: int
    choice: Literal["left", "right", "tie", "skip"]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=False)]


class UndoBody(Body):
    """The comparison that is shown, so that two pages cannot take back the same decision."""

    number: int


class PromptBody(Body):
    """A prompt that a person typed."""

    text: Annotated[str, Field(max_length=100_000)]


class TrainingBody(Body):
    """The stage that is to learn from the pairs."""

    stage: Literal["reward", "dpo"]


class Session(Protocol):
    """Comparisons under way. Each method returns the state that the page shows, as JSON.

    What a person cannot do is refused by an InputError, or by an APIError where the page shows what is no more.
    """

    def start(self) -> None:
        """Begin, in the event loop."""

    async def close(self) -> None:
        """End all that is under way."""

    async def state(self) -> dict[str, Any]:
        """Wait for the next comparison for some seconds, and return the state."""

    async def decide(self, number: int, choice: Literal["left", "right", "tie", "skip"], seconds: float) -> None:
        """Write a decision down."""

    async def undo(self, number: int) -> None:
        """Take the last decision back."""

    async def ask(self, text: str) -> None:
        """Let the models answer a prompt."""

    async def train(self, stage: str) -> None:
        """Begin to train on the pairs."""


class Routes:
    """The addresses under /api."""

    def __init__(self, session: Session) -> None:
        self.session = session

    async def state(self) -> dict[str, Any]:
        """Return the state."""
        return await self.session.state()

    async def decide(self, body: DecisionBody) -> dict[str, Any]:
        """Take a decision."""
        await self.session.decide(body.number, body.choice, body.seconds)
        return await self.session.state()

    async def undo(self, body: UndoBody) -> dict[str, Any]:
        """Take back the last decision."""
        await self.session.undo(body.number)
        return await self.session.state()

    async def ask(self, body: PromptBody) -> dict[str, Any]:
        """Take a prompt."""
        await self.session.ask(body.text)
        return await self.session.state()

    async def train(self, body: TrainingBody) -> dict[str, Any]:
        """Begin to train."""
        await self.session.train(body.stage)
        return await self.session.state()


def create_compare_app(session: Session, limits: Limits | None = None) -> FastAPI:
    """Make the ASGI application of a session of comparisons, which any ASGI server can run.

    It answers to localhost and addresses alone, and loads nothing from elsewhere.
    """
    limits = limits or Limits()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        session.start()
        yield
        await session.close()

    app = FastAPI(title="quoth", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    add_error_handlers(app)
    routes, site = Routes(session), Site(FOLDER, SHARED)
    for path, call, method in (
        ("/", site.index, "GET"),
        ("/static/{name}", site.part, "GET"),
        ("/api/state", routes.state, "GET"),
        ("/api/decision", routes.decide, "POST"),
        ("/api/undo", routes.undo, "POST"),
        ("/api/prompt", routes.ask, "POST"),
        ("/api/training", routes.train, "POST"),
    ):
        app.add_api_route(path, call, methods=[method], response_model=None)
    app.add_middleware(Guard, body=limits.body, seconds=limits.body_seconds)
    return app
