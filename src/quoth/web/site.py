"""A page's files, read once: no address that a client names reaches the file system."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection
from pathlib import Path

from starlette.responses import Response

from quoth.web.errors import APIError

VENDOR = Path(__file__).parent / "vendor"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
POLICY = (
    "default-src 'none'; script-src 'self'{}; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
IMPORT_MAP = re.compile(r'<script type="importmap">(.*?)</script>', re.DOTALL)


class Site:
    """The page at `/`, and what it loads: the files of a folder, and single files of others.

    No script may stand in the page but its import map, whose hash the policy names.
    """

    def __init__(self, folder: Path, shared: Collection[Path] = ()) -> None:
        files = [*shared, *(file for file in folder.iterdir() if file.suffix in KINDS)]
        self.files = {file.name: file.read_bytes() for file in files}
        maps = IMPORT_MAP.findall(self.files["index.html"].decode())
        hashes = (base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in maps)
        self.headers = {
            "Content-Security-Policy": POLICY.format("".join(f" 'sha256-{one}'" for one in hashes)),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-cache",
        }

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
        return Response(self.files[name], media_type=f"{kind}; charset=utf-8", headers=self.headers)
