"""`quoth studio`: look into a run in a browser."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import console, print_json, warn
from quoth.cli.serve import needing_server
from quoth.system.errors import InputError
from quoth.web.address import is_loopback, listen, url_of

if TYPE_CHECKING:
    from quoth.studio.opened import OpenRun


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
        webbrowser.open(shown[0])
    # A page follows the run by a request that never ends.
    make_server(app, ConnectionLimits(), timeout_graceful_shutdown=1).run(sockets=[listener])


def open_run(name: str) -> OpenRun:
    """Open a run for the studio.

    Raises:
        InputError: there is no such run, or it has no intact checkpoint.
    """
    from quoth.recipes.open_again import open_again
    from quoth.recipes.recipe import read_recipe
    from quoth.studio.opened import OpenRun
    from quoth.train.run import find_run

    folder = find_run(name)
    run = OpenRun(folder, lambda: open_again(folder, read_recipe(folder), run.tokenizer))
    return run
