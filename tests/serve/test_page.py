"""The page's files: served from the package, with nothing from elsewhere."""

from __future__ import annotations

import re

import pytest
from serve.running import Running

from quoth.serve.app import PAGE


def test_the_page_and_all_that_it_loads(server: Running) -> None:
    page = server.client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    named = re.findall(r'(?:href|src)="(/[^"]*)"', page.text)
    scripts = "".join(file.read_text(encoding="utf-8") for file in PAGE.glob("*.js"))
    imported = [f"/static/{name}" for name in re.findall(r'from "\./([^"]+)"', scripts)]
    assert {"/static/app.js", "/static/style.css", "/static/api.js", "/static/column.js"} == {*named, *imported}
    for path in {*named, *imported}:
        assert server.client.get(path).status_code == 200


def test_no_file_names_an_outside_host() -> None:
    for file in PAGE.iterdir():
        assert not re.search(r"https?://|//cdn|@import", file.read_text(encoding="utf-8")), file.name


@pytest.mark.parametrize("name", ["app.py", "%2e%2e%2fapp.py", "index.html/..", "nothing.js"])
def test_no_other_file_is_served(server: Running, name: str) -> None:
    assert server.client.get(f"/static/{name}").status_code == 404
