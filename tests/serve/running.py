"""Servers with tiny models, listening on loopback in a thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from generate.models import model
from starlette.types import ASGIApp

from quoth.generate.engine import Engine
from quoth.model.gpt import GPT
from quoth.serve.app import create_app
from quoth.serve.requests import Limits, ServedModel
from quoth.text.chat import Template
from quoth.text.tokenizer import Bytes, Tokenizer
from quoth.web.address import listen
from quoth.web.connection import make_server

ALPHABET = "abcdefgh \n"
TEMPLATE = """{% for m in messages %}
{% if m.role == 'system' and not loop.first %}{{ raise_exception('A system message comes first.') }}{% endif %}
<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""


class ChatBytes(Bytes):
    """Bytes, and tokens that part the turns of a conversation."""

    def __init__(self) -> None:
        super().__init__(["<|user|>", "<|assistant|>", "<|system|>", "<|end|>"])
        self.ends, self.template = (259,), TEMPLATE.replace("\n", "")


# What the engines of served models were made from.
GPTS: dict[str, GPT] = {}


def served(name: str, tokenizer: Tokenizer, **given: Any) -> ServedModel:
    gpt = GPTS[name] = model("modern", vocabulary=tokenizer.vocabulary, **({"context": 64} | given.pop("shape", {})))
    engine = Engine(gpt, tokenizer, **({"slots": 4, "threads": 1, "compiled": True} | given))
    template = Template(tokenizer.template) if tokenizer.template else None
    return ServedModel(name, engine, 1_700_000_000, template, "quoth-0123")


@dataclass
class Running:
    """A server under way."""

    url: str
    models: dict[str, ServedModel]
    client: httpx.Client

    def health(self) -> dict[str, Any]:
        return self.client.get("/health").json()  # type: ignore[no-any-return]

    def is_idle(self, seconds: float = 5.0) -> bool:
        """Whether all slots are free again within some seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            now = self.health()
            if now["running"] == now["waiting"] == 0:
                return True
            time.sleep(0.01)
        return False


@contextmanager
def running(models: Sequence[ServedModel], limits: Limits | None = None, **given: Any) -> Iterator[Running]:
    with listening(create_app(models, limits, **given), limits) as (url, client):
        yield Running(url, {m.name: m for m in models}, client)


@contextmanager
def listening(app: ASGIApp, limits: Limits | None = None) -> Iterator[tuple[str, httpx.Client]]:
    """An application that is served, its address, and a client of it."""
    listener = listen("127.0.0.1", 0)
    server = make_server(app, limits or Limits(), log_level="error", timeout_graceful_shutdown=1)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with httpx.Client(base_url=url, timeout=30) as client:
        while not server.started:
            time.sleep(0.01)
        yield url, client
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def raw(server: Running, request: bytes, *, wait: float = 5.0, leaves: bool = True) -> bytes:
    """Send bytes as they are, and no more if one leaves; what comes back until the other side closes."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        connection.sendall(request)
        if leaves:
            connection.shutdown(socket.SHUT_WR)
        got = b""
        while part := connection.recv(65536):
            got += part
    return got
