"""Pages of comparisons with tiny models, listening on loopback in a thread."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
from serve.running import ChatBytes, listening, served

from quoth.recipes.comparing import Comparing, Options
from quoth.recipes.load_engine import LoadedEngine
from quoth.recipes.load_run import LoadedRun
from quoth.serve.compare import create_compare_app
from quoth.text.tokenizer import Tokenizer
from quoth.tune.comparison_rows import About, Record
from quoth.tune.conversation import Messages

PROMPTS: list[Messages] = [({"role": "user", "content": f"Ask of love {n}."},) for n in range(5)]
# What stands for a training: its lines are those of one, and its summary too.
TRAINS = """import sys
print("step 1", file=sys.stderr)
print("Done", file=sys.stderr)
print('{"folder": "new", "accuracy": 0.83}')"""


def loaded(name: str, tokenizer: Tokenizer | None = None, **given: Any) -> LoadedEngine:
    model = served(name, tokenizer or ChatBytes(), **({"slots": 2} | given))
    return LoadedEngine(cast(LoadedRun, SimpleNamespace(name=name)), model.engine, model.template)


@dataclass
class Page:
    """A page under way."""

    url: str
    session: Comparing
    client: httpx.Client

    def state(self) -> dict[str, Any]:
        return self._of(self.client.get("/api/state"))

    def decide(self, choice: str, number: int | None = None) -> dict[str, Any]:
        number = self.state()["comparison"]["number"] if number is None else number
        body = {"number": number, "choice": choice, "seconds": 1.5}
        return self._of(self.client.post("/api/decision", json=body))

    def undo(self) -> dict[str, Any]:
        return self._of(self.client.post("/api/undo", json={"number": self.state()["next"]}))

    def _of(self, got: httpx.Response) -> dict[str, Any]:
        assert got.status_code == 200, got.text
        return got.json()  # type: ignore[no-any-return]


@contextmanager
def comparing(
    path: Path,
    runs: Sequence[LoadedEngine],
    prompts: Sequence[Messages] = PROMPTS,
    *,
    wanted: int = 30,
    seed: int = 1,
    kind: type[Comparing] = Comparing,
    command: Callable[[str], Sequence[str]] | None = lambda stage: [sys.executable, "-c", TRAINS],
) -> Iterator[Page]:
    names = [run.name for run in runs]
    about = About(names[0], "".join(names[1:]), seed, plain=runs[0].template is None)
    session = kind(runs, Record(path, about), prompts, Options(wanted, 12, 1.0, names[0]), command)
    with listening(create_compare_app(session)) as (url, client):
        yield Page(url, session, client)
