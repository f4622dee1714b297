"""`quoth studio`: look into a run in a browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import console, print_json, warn
from quoth.cli.serve import needing_server
from quoth.system.errors import InputError
from quoth.web.address import is_loopback, listen, url_of

if TYPE_CHECKING:
    from rich.console import Console

    from quoth.studio.opened import OpenRun


# Seconds between two looks for the first weights of a run.
PAUSE = 0.2


@dataclass
class Arguments:
    """Look into a run in a browser: how it learned, and what happens inside it on any text.

    Attributes:
        run: a run's folder, its name, or latest.
        host: the address to listen on; only this machine reaches 127.0.0.1.
        port: 0 takes a free one.
        open: whether to open the page in a browser.
        json: one JSON object on stdout once it listens.
    """

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="[RUN]")]] = "latest"
    host: str = "127.0.0.1"
    port: int = 8010
    open: bool = True
    json: bool = False


def main(arguments: list[str], started: float) -> None:
    a = parse(Arguments, arguments, "studio")
    if not 0 <= a.port < 65536:
        raise InputError(f"--port must lie in 0 to 65535, not {a.port}.")
    listener = listen(a.host, a.port)
    with needing_server("quoth studio"):
        from quoth.studio.app import create_studio_app
        from quoth.web.connection import ConnectionLimits, make_server
        from quoth.web.entrance import CookieEntrance
    run = open_run(a.run)
    url = url_of(listener)
    shown: list[str] = []

    def tell(code: str) -> None:
        address = f"{url}/?code={code}"
        shown.append(address)
        if a.json:
            print_json({"url": address, "run": run.folder.name})
        elif len(shown) == 1:
            console(False).print(f"[bold]{run.folder.name}[/] is open at {address} ; Ctrl-C ends it.", soft_wrap=True)
        else:
            console(False).print(f"Another browser can open it at {address} .", soft_wrap=True)

    if not is_loopback(a.host):
        warn(f"With --host {a.host}, whoever reads the address on its way over the network may use the studio.")
    entrance = CookieEntrance(listener.getsockname()[1], tell)
    app = create_studio_app(run, entrance)
    if a.open and not a.json:
        show_page(shown[0])
    server = make_server(app, ConnectionLimits())
    app.state.goes_on = lambda: not server.should_exit
    server.run(sockets=[listener])


def show_page(url: str) -> None:
    """Open an address in a browser that has a window; one that has none would take the terminal."""
    if sys.platform in ("win32", "darwin") or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        webbrowser.open(url)


def open_run(name: str) -> OpenRun:
    """Open a run for the studio; one that has only begun to train is waited for.

    Raises:
        InputError: there is no such run, or it has no intact checkpoint.
    """
    from quoth.recipes.open_again import open_again
    from quoth.recipes.recipe import read_recipe
    from quoth.studio.opened import OpenRun
    from quoth.system.lock import is_held
    from quoth.train.keeper import moments
    from quoth.train.run import find_run

    folder = find_run(name)
    if not moments(folder) and is_held(folder):
        console(True).print(f"{folder.name} has only begun; its first weights are waited for.")
        while not moments(folder) and is_held(folder):
            time.sleep(PAUSE)
    run = OpenRun(folder, lambda: open_again(folder, read_recipe(folder), run.tokenizer))
    return run


@contextmanager
def studio_beside(folder: Path, screen: Console) -> Iterator[subprocess.Popen[str]]:
    """In it a studio shows a run, in a process of its own, whose end changes nothing here; it ends with the block.

    Ctrl-C does not reach it, since that may be meant for what runs in the block.
    """
    command = [sys.executable, "-m", "quoth", "studio", str(folder), "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def show() -> None:
        assert process.stdout
        for number, line in enumerate(process.stdout):
            url = json.loads(line)["url"]
            if number == 0:
                show_page(url)
            who = "Another browser can open the studio" if number else "The studio is open"
            screen.print(f"{who} at {url} .", soft_wrap=True)

    Thread(target=show, daemon=True).start()
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
