"""The page's files, read once: no address that a client names reaches the file system."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from starlette.responses import Response

from quoth.serve.errors import APIError

PAGE = Path(__file__).parent / "page"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Site:
    """The page at `/`, and what it loads: the files of a folder, and single files of another."""

    def __init__(self, folder: Path = PAGE, shared: Collection[Path] = ()) -> None:
        files = [*shared, *(file for file in folder.iterdir() if file.suffix in KINDS)]
        self.files = {file.name: file.read_bytes() for file in files}

    async def index(self) -> Response:
        """The page itself."""
        return self._file("index.html")

    async def part(self, name: str) -> Response:
        """A script or a style of it."""
        return self._file(name)

    def _file(self, name: str) -> Response:
        if name not in self.files:
            raise APIError(404, "There is no such file.")
        kind = KINDS[Path(name).suffix]
        return Response(self.files[name], media_type=f"{kind}; charset=utf-8", headers=HEADERS)
