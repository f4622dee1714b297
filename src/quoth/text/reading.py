"""Files as text: found, checked, and read in pieces, so that memory does not grow with the file."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quoth.system.errors import InputError
from quoth.text.tokenizer import code_points

PIECE_BYTES = 8 * 2**20


def text_files(path: Path) -> list[Path]:
    """The file itself, or a folder's files in the order of their names, hidden ones left out.

    Raises:
        InputError: there is no such path, or the folder is empty.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"There is no file or folder {path}.")
    inside = (p for p in path.rglob("*") if not any(part.startswith(".") for part in p.relative_to(path).parts))
    files = sorted(p for p in inside if p.is_file())
    if not files:
        raise InputError(f"The folder {path} holds no files.")
    return files


def pieces(files: list[Path], errors: str = "strict") -> Iterator[str]:
    """The files' text, one after another with a line break between, in pieces of some megabytes.

    A piece ends before a space or line break that follows another character, where no BPE word can reach across, so
    tokens do not depend on the pieces' size.

    Raises:
        InputError: a file cannot be read, is not UTF-8 (with the byte's offset) or looks binary.
    """
    held = ""
    for number, file in enumerate(files):
        if number and not held.endswith("\n"):
            held += "\n"
        for text in _decoded(file, errors):
            held += text
            if cut := _last_boundary(held):
                yield held[:cut]
                held = held[cut:]
    if held:
        yield held


def _last_boundary(text: str) -> int:
    """The last place, not the first, where a space begins after something else; 0 where there is none."""
    end = len(text)
    while end > 0:
        start = max(0, end - 4096)
        # Python alone takes \x1c to \x1f for spaces; a BPE word may go on with them.
        if found := [m.start() + 1 for m in re.finditer(r"\S(?=[^\S\x1c-\x1f])", text[start : end + 1])]:
            return start + found[-1]
        end = start
    return 0


def _decoded(file: Path, errors: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")(errors)
    offset = 0
    try:
        with file.open("rb") as stream:
            while True:
                data = stream.read(PIECE_BYTES)
                if offset == 0 and b"\0" in data[:8192]:
                    raise InputError(f"{file} looks like a binary file (it has zero bytes), but UTF-8 text is wanted.")
                waiting = len(decoder.getstate()[0])
                yield decoder.decode(data, final=not data)
                if not data:
                    return
                offset += len(data)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file} is not UTF-8: byte {offset - waiting + error.start} is 0x{error.object[error.start]:02x}; "
            "convert it, or read it with --errors replace."
        ) from error
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.") from error


@dataclass
class Survey:
    """What a text is made of."""

    characters: int = 0
    bytes: int = 0
    lines: int = 0
    first: str = ""
    _counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0x110000, np.int64), repr=False)

    @property
    def alphabet(self) -> dict[str, int]:
        """Each character and how often it stands there, in code point order."""
        return {chr(i): int(self._counts[i]) for i in np.flatnonzero(self._counts)}

    def add(self, text: str) -> None:
        self.characters += len(text)
        self.bytes += len(text.encode())
        self.lines += text.count("\n")
        counts = np.bincount(code_points(text))
        self._counts[: len(counts)] += counts
        if len(self.first) < 1000:
            self.first = (self.first + text)[:1000]


def survey(files: list[Path], errors: str = "strict") -> Survey:
    """Read the text once and count.

    Raises:
        InputError: the text is empty or repeats one character; or what `pieces` raises.
    """
    seen = Survey()
    for text in pieces(files, errors):
        seen.add(text)
    where = files[0] if len(files) == 1 else files[0].parent
    if not seen.characters:
        raise InputError(f"{where} is empty: there is nothing to learn from.")
    if len(seen.alphabet) == 1:
        raise InputError(f"{where} holds one distinct character, {next(iter(seen.alphabet))!r}: nothing to learn.")
    return seen
