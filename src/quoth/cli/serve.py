"""`quoth serve`: let programs and browsers talk to runs."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import console, print_json, warn
from quoth.system.errors import InputError
from quoth.web.address import is_loopback, listen, url_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from quoth.serve.requests import ServedModel


@dataclass
class Arguments:
    """Serve runs to programs, by OpenAI's API, and to browsers, by a page.

    Attributes:
        runs: runs' folders, their names, or latest, or RUN+ADAPTER; the first one answers requests that name none.
        host: the address to listen on; only this machine reaches 127.0.0.1.
        port: 0 takes a free one.
        api_key_env: the environment variable with the key that clients must show.
        allow_host: a name, besides localhost and addresses, under which the server may be reached.
        cors: an origin, such as https://my.example, whose pages in a browser may use the server; * for everybody's.
        slots: how many answers are written at once.
        context: how many tokens of a conversation are kept in mind; 0 takes each run's own.
        max_waiting: how many more requests may wait; later ones are told to try again.
        max_tokens: how many new tokens an answer may have.
        max_seconds: how many seconds an answer may take.
        checkpoint: best or last.
        weights: float32, bfloat16 or int8; smaller ones are read faster and are less exact.
        threads: 0 tries out how many are fastest.
        json: one JSON object on stdout once it listens.
    """

    runs: tyro.conf.Positional[Annotated[list[str], tyro.conf.arg(metavar="[RUN]...")]] = field(
        default_factory=lambda: ["latest"]
    )
    host: str = "127.0.0.1"
    port: int = 8000
    api_key_env: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    allow_host: Annotated[tyro.conf.UseAppendAction[list[str]], tyro.conf.arg(metavar="NAME")] = field(
        default_factory=list
    )
    cors: Annotated[tyro.conf.UseAppendAction[list[str]], tyro.conf.arg(metavar="ORIGIN")] = field(default_factory=list)
    slots: int = 8
    context: int = 0
    max_waiting: int = 64
    max_tokens: int = 4096
    max_seconds: float = 600.0
    checkpoint: Literal["best", "last"] = "best"
    weights: Literal["float32", "bfloat16", "int8"] = "float32"
    threads: int = 0
    json: bool = False


def main(arguments: list[str], started: float) -> None:
    a = parse(Arguments, arguments, "serve")
    check(a)
    key = key_of(a)
    warn_of_everybody(a, key)
    listener = listen(a.host, a.port)
    with needing_server("quoth serve"):
        from quoth.serve.app import create_app
        from quoth.serve.requests import Limits
        from quoth.web.connection import make_server
    models = load(a)
    limits = Limits(tokens=a.max_tokens, seconds=a.max_seconds, waiting=a.max_waiting)
    app = create_app(models, limits, key=key, hosts=a.allow_host, origins=a.cors)
    url = url_of(listener)
    if a.json:
        print_json({"url": url, "models": [model.name for model in models]})
    else:
        tell(url, models)
    make_server(app, limits).run(sockets=[listener])


def check(a: Arguments) -> None:
    """Refuse numbers that mean nothing.

    Raises:
        InputError: one does.
    """
    if not 0 <= a.port < 65536:
        raise InputError(f"--port must lie in 0 to 65535, not {a.port}.")
    if a.slots < 1 or a.max_tokens < 1 or min(a.max_waiting, a.threads, a.context) < 0 or not a.max_seconds > 0:
        raise InputError("--slots, --max-tokens and --max-seconds must be more than 0, the other numbers 0 or more.")
    if wrong := [origin for origin in a.cors if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin)]:
        raise InputError(f"--cors must be * or an origin such as https://my.example without a path, not {wrong[0]!r}.")
    if len(set(a.runs)) < len(a.runs):
        raise InputError("A run can be served once only.")


def key_of(a: Arguments) -> str | None:
    """Return the key that the environment holds, if one is asked for.

    Raises:
        InputError: the variable is not set.
    """
    if a.api_key_env is None:
        return None
    if not (key := os.environ.get(a.api_key_env)):
        raise InputError(f"--api-key-env names {a.api_key_env}, but that variable is not set.")
    return key


def warn_of_everybody(a: Arguments, key: str | None) -> None:
    """Warn where other machines may use the server without a key."""
    if key is None and not is_loopback(a.host):
        who = f"With --host {a.host}, everybody who reaches this machine may use the server"
        warn(f"{who}; --api-key-env NAME asks for a key.")


@contextmanager
def needing_server(command: str) -> Iterator[None]:
    """Say what brings the packages that a server needs, where one is missing.

    Raises:
        InputError: the block imported a package that is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(
            f"{command} needs {error.name}, which is not installed; pip install 'quoth[serve]' brings it."
        ) from error


def load(a: Arguments) -> list[ServedModel]:
    """Load the models of the runs."""
    from quoth.recipes.load_engine import load_engine
    from quoth.serve.requests import ServedModel

    models, taken = [], 0
    for name in a.runs:
        run = load_engine(
            name, a.checkpoint, warn,
            slots=a.slots, weights=a.weights, threads=a.threads, context=a.context, taken=taken,
        )  # fmt: skip
        taken += run.engine.memory_bytes(
            run.run.checkpoint.model, a.slots, weights=a.weights, context=run.engine.context
        )
        made = int(max(file.stat().st_mtime for file in run.run.files))
        models.append(ServedModel(run.name, run.engine, made, run.template, fingerprint_of(run.run.files)))
    if len({model.name for model in models}) < len(models):
        raise InputError("Two of these runs have the same name; a server tells runs apart by their names.")
    return models


def fingerprint_of(files: Sequence[Path]) -> str:
    """Return a fingerprint of all that a model was made of, from the files that stand for it."""
    from hashlib import sha256

    from quoth.system.files import sha256_of

    digests = [sha256_of(file) for file in files]
    digest = digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()
    return f"quoth-{digest[:12]}"


def tell(url: str, models: list[ServedModel]) -> None:
    """Print where the server is, and how it is used."""
    screen = console(False)
    for model in models:
        what = "chats" if model.template else "continues text"
        slots = f"{model.engine.decoder.slots} slots on {model.engine.decoder.threads} threads"
        screen.print(f"[bold]{model.name}[/] {what}; context {model.engine.context:,}, {slots}")
    screen.print(f"The page is at {url}, the API at {url}/v1; Ctrl-C ends it.")
