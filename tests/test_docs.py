"""The pages of docs/: their code runs, every topic has one, and what they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quoth.cli.dispatch import COMMANDS
from quoth.ladder.exercises import exercises
from quoth.ladder.topics import RUNGS, TOPICS

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
LECTURE = [DOCS / "lecture" / f"{topic}.md" for topic in TOPICS]

MORE = [DOCS / name for name in ("resuming.md", "scaling.md", "talking.md")]


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module", autouse=True)
def one_cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUOTH_CACHE", str(tmp_path_factory.getbasetemp() / "docs-cache"))
        yield


def test_every_topic_is_a_page() -> None:
    assert sorted(LECTURE) == [page for page in PAGES if page.parent.name == "lecture" and page.name != "index.md"]


@pytest.mark.parametrize("page", [*LECTURE, *MORE], ids=lambda page: page.stem)
@pytest.mark.usefixtures("one_thread")
def test_its_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", text(page), re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {"__name__": page.stem}
    for block in blocks:
        exec(compile(block, page.name, "exec"), names)
    assert blocks and "assert" in "".join(blocks)


@pytest.mark.parametrize("page", LECTURE, ids=lambda page: page.stem)
def test_its_exercises_are_those_that_are_checked(page: Path) -> None:
    listed = dict(re.findall(r"^- `([\w-]+)`: (.+?)$", " ".join(text(page).split("\n  ")), re.MULTILINE))
    known = {name: " ".join(e.task.split()) for name, e in exercises().items() if name.rpartition("-")[0] == page.stem}
    assert listed == known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_it_names_is_there(page: Path) -> None:
    whole = " ".join(text(page).split())
    assert set(re.findall(r"`quoth ([a-z]+)", whole)) <= COMMANDS.keys()
    assert set(re.findall(r"explain ([a-z][\w-]+)", whole)) <= TOPICS.keys()
    assert set(re.findall(r"--rung ([\w-]+)", whole)) <= set(RUNGS)
    for link in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        assert link.startswith("http") or (page.parent / link).exists()


@pytest.mark.slow
def test_the_pages_build(tmp_path: Path) -> None:
    config = pytest.importorskip("mkdocs.config")
    from mkdocs.commands.build import build

    build(config.load_config(str(DOCS.parent / "mkdocs.yml"), site_dir=str(tmp_path), strict=True))
    assert (tmp_path / "lecture/attention/index.html").exists()
