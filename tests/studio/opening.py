"""A tiny run that was trained, and a studio that has it open."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from serve.running import listening

from quoth.cli.studio import open_run
from quoth.recipes.start import start
from quoth.studio.app import create_studio_app
from quoth.studio.opened import OpenRun
from quoth.web.entrance import CookieEntrance

WORDS = ["king", "queen", "sea", "love", "night", "day", "hath", "speak\n"]
SHAPE = dict(layers=2, width=32, heads=2, context=32, batch=8, sample_tokens=12)
MACHINE = dict(compile="off", threads=1, dtype="float32", device="cpu")


def trained(place: Path, name: str = "run", **changes: object) -> Path:
    """A run of a hundred steps in a folder."""
    (place / "text.txt").write_text(" ".join(random.Random(0).choices(WORDS, k=4000)))
    flags = {"data": str(place / "text.txt"), "steps": 100, "snapshots": 6, **SHAPE, **MACHINE, **changes}
    list(start("laptop", None, flags, str(place / name), None, time.monotonic()).events())
    return place / name


@dataclass
class Opened:
    """A studio under way, and a client that it let in."""

    run: OpenRun
    url: str
    codes: list[str]
    client: httpx.Client

    def ask(self, path: str, **body: object) -> httpx.Response:
        return self.client.post(path, json=body)


@contextmanager
def studio(folder: Path) -> Iterator[Opened]:
    run, codes = open_run(str(folder)), []
    with listening(create_studio_app(run, CookieEntrance(1, codes.append))) as (url, client):
        client.headers["origin"] = url
        assert client.get("/", params={"code": codes[-1]}).status_code == 200
        yield Opened(run, url, codes, client)
