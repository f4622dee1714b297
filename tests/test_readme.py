"""What README.md says is so, and the files are as CONTRIBUTING.md wants them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import torch

from quoth.cli.dispatch import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = [path for top in ("src/quoth", "benchmarks", "tools") for path in sorted((ROOT / top).rglob("*.py"))]
PLACES = re.compile(r"/work\b|\bshared/")  # Where some machine keeps things.
MAY_NAME_PLACES = {"tests/test_readme.py", "tests/text/test_sources.py"}


def fenced(language: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for name, text in blocks if name == language]


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("QUOTH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert torch.get_num_threads() == 1
    names: dict[str, object] = {}
    for block in fenced("python"):
        exec(compile(block, "README.md", "exec"), names)
    said = capsys.readouterr().out
    steps = [(int(number), float(loss)) for number, loss in re.findall(r"^(\d+) (\d+\.\d+)$", said, re.MULTILINE)]
    assert [number for number, _ in steps] == [20, 40, 60, 80, 100]
    _, _, rest = said.partition("Evaluation(loss=")
    assert 1.0 < float(rest.split(",")[0]) < steps[0][1] < 4.5
    assert len(rest.partition("\n")[2]) == 100


def test_its_commands_are_all_the_commands() -> None:
    table = "\n".join(line for line in README.splitlines() if line.startswith("|"))
    assert re.findall(r"^\| `quoth (\w+)", table, re.MULTILINE) == list(COMMANDS)
    typed = [name for block in fenced("") for name in re.findall(r"^quoth (\w+)", block, re.MULTILINE)]
    assert typed
    assert set(typed + re.findall(r"`quoth (\w+)", README)) <= COMMANDS.keys()


def test_its_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", README) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []


def test_no_file_is_long() -> None:
    assert CODE
    assert [path for path in CODE if len(path.read_text(encoding="utf-8").splitlines()) > 400] == []


def test_no_file_names_a_place_on_some_machine() -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    names = set(filter(None, listed.stdout.split("\0"))) - MAY_NAME_PLACES
    files = [ROOT / name for name in sorted(names) if (ROOT / name).is_file()]
    assert ROOT / "README.md" in files
    assert [path for path in files if PLACES.search(path.read_text(encoding="utf-8", errors="replace"))] == []
