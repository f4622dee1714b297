"""What DATA names: files, folders and named corpora, as files that can be read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from quoth.system.errors import InputError, suggestion
from quoth.system.files import cache_folder
from quoth.text.reading import is_binary
from quoth.text.sources import SOURCES, materialise

# Formats that look binary and are read all the same.
READ_THOUGH_BINARY = {".docx", ".epub", ".gz", ".parquet", ".pdf", ".zip", ".zst"}
COMPRESSED = {".gz", ".zst"}
# How many changed files are named.
SHOWN = 5


@dataclass
class Found:
    """The files that DATA names, in the order of their names, by the names that are shown.

    `hidden` and `binary` count what lies in the folders and is left out.
    """

    data: str
    name: str
    files: dict[str, Path] = field(default_factory=dict)
    hidden: int = 0
    binary: int = 0

    def sources(self) -> dict[str, str]:
        """The SHA-256 of each file in hex; of one that cannot be read, nothing."""
        return {name: _sha256(path) for name, path in self.files.items()}


def find(data: str, cache: Path | None = None) -> Found:
    """The files of a file, a folder, a named corpus, or several of them with commas between.

    A path may hold commas itself. A file or folder goes before a named corpus of the same name.

    Raises:
        InputError: something of it is none of these, or a folder holds nothing that can be read.
    """
    places = [_place(part, cache) for part in split_data(data)]
    names = [name for name, _ in places]
    found = Found(data, names[0] if len(names) == 1 else f"{names[0]}-and-{len(names) - 1}-more")
    files = [file for _, path in places for file in _files(path, found)]
    files = list(dict.fromkeys(files))
    # For one file or folder its own names; for several, theirs below the folder that holds all.
    root = Path(os.path.commonpath([path.absolute().parent for path in files]))
    if len(places) == 1 and places[0][1].is_dir():
        root = places[0][1].absolute()
    found.files = {file.absolute().relative_to(root).as_posix(): file for file in files}
    return found


def split_data(data: str) -> list[str]:
    """The parts of DATA between commas; the longest ones that exist, since a path may hold a comma.

    >>> split_data("a.txt, b.txt")
    ['a.txt', 'b.txt']
    """
    words, parts = data.split(","), []
    while words:
        wholes = [",".join(words[:n]) for n in range(len(words), 0, -1)]
        part = next((whole for whole in wholes if whole.strip() and Path(whole).expanduser().exists()), words[0])
        words = words[part.count(",") + 1 :]
        if part.strip():
            parts.append(part if Path(part).expanduser().exists() else part.strip())
    return parts or [data]


def changes(before: dict[str, str], now: dict[str, str]) -> str:
    """What has changed between two records of `Found.sources`, in words; nothing where the same texts come in order.

    >>> changes({"a.txt": "1", "b.txt": "2"}, {"b.txt": "3", "c.txt": "4"})
    'b.txt is another, c.txt was added, a.txt is gone'
    """
    if list(before.values()) == list(now.values()):
        return ""
    said = [f"{name} is another" for name in now if before.get(name, now[name]) != now[name]]
    said += [f"{name} was added" for name in now if name not in before]
    said += [f"{name} is gone" for name in before if name not in now]
    more = [f"{len(said) - SHOWN} more"] if len(said) > SHOWN else []
    return ", ".join([*said[:SHOWN], *more]) or "the files come in another order"


def is_hidden(name: PurePosixPath | Path) -> bool:
    """Whether a file is hidden, lies in a hidden folder, or is what macOS adds to archives."""
    return any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in name.parts)


def unpacked_name(name: str) -> str:
    """A file's name without what compresses it: `book.txt` for `book.txt.gz`."""
    return name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in COMPRESSED else name


def _place(data: str, cache: Path | None) -> tuple[str, Path]:
    path = Path(data).expanduser()
    if path.exists():
        return Path(unpacked_name(path.resolve().name)).stem or "data", path
    if data in SOURCES:
        return data, materialise(data, (cache or cache_folder()) / "texts")
    raise InputError(f"{data!r} is neither a file or folder nor a named corpus{suggestion(data, SOURCES)}.")


def _files(path: Path, found: Found) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    files, skipped = [], found.hidden + found.binary
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        if is_hidden(file.relative_to(path)):
            found.hidden += 1
        elif _is_left_out(file):
            found.binary += 1
        else:
            files.append(file)
    if not files:
        skipped = found.hidden + found.binary - skipped
        only = f" that can be read: {skipped} are hidden or binary" if skipped else ""
        raise InputError(f"The folder {path} holds no files{only}.")
    yield from files


def _is_left_out(file: Path) -> bool:
    if file.suffix.lower() in READ_THOUGH_BINARY:
        return False
    try:
        return is_binary(file)
    except OSError:
        return False  # It is named among the files that cannot be read.


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
