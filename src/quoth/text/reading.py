"""Files as text: decoded, and read in pieces, so that memory does not grow with the file."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quoth.text.tokenizer import code_points

PIECE_BYTES = 8 * 2**20
# Where bytes are not UTF-8, an encoding is guessed from so many of them, around the first fault.
GUESSED_FROM = 2**18
# UTF-32's mark begins with UTF-16's, so it is looked for first.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# The encoding of most old texts in the languages of western Europe.
USUAL = "cp1252"


class UnreadableError(Exception):
    """A file cannot be read; the message says why, and goes on after "it"."""


@dataclass(frozen=True)
class Encoding:
    """How a file's bytes become characters. `remark` goes on after the file's name, where anything was guessed."""

    name: str
    errors: str = "strict"
    remark: str = ""


def is_binary(path: Path) -> bool:
    """Whether a file has zero bytes near its beginning and no mark of UTF-16 or UTF-32, whose letters have them.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        begins = file.read(8192)
    return b"\0" in begins and not begins.startswith(tuple(MARKS))


def encoding_of(path: Path) -> Encoding:
    """The encoding that a file's mark names, else UTF-8 where all of it is UTF-8, else one that is guessed.

    Raises:
        UnreadableError: the file is binary, or no encoding fits.
        OSError: it cannot be read.
    """
    if is_binary(path):
        raise UnreadableError("looks like a binary file (it holds zero bytes)")
    with path.open("rb") as file:
        begins = file.read(4)
        for mark, name in MARKS.items():
            if begins.startswith(mark):
                return Encoding(name)
        file.seek(0)
        decoder, offset = codecs.getincrementaldecoder("utf-8")(), 0
        while True:
            waiting = len(decoder.getstate()[0])
            data = file.read(PIECE_BYTES)
            try:
                decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                fault = offset - waiting + error.start
                break
            if not data:
                return Encoding("utf-8")
            offset += len(data)
        file.seek(max(0, fault - GUESSED_FROM // 4))
        return _guessed(file.read(GUESSED_FROM), fault)


def _guessed(sample: bytes, fault: int) -> Encoding:
    as_utf8 = sample.decode("utf-8", errors="replace")
    faults = as_utf8.count("\N{REPLACEMENT CHARACTER}")
    if sum(character > "\x7f" for character in as_utf8) > 10 * faults:
        remark = f"is not all UTF-8 (the first fault is byte {fault}); what could not be read became U+FFFD"
        return Encoding("utf-8", "replace", remark)
    try:
        from charset_normalizer import from_bytes
    except ImportError as error:
        raise UnreadableError(
            f"is not UTF-8 (byte {fault} is the first fault), and guessing its encoding takes "
            "pip install 'quoth[documents]'"
        ) from error
    matches = from_bytes(sample)
    if (best := matches.best()) is None:
        raise UnreadableError(f"is not UTF-8 (byte {fault} is the first fault), and no other encoding fits it")
    # Several encodings of Europe differ in few letters; where the commonest makes as good words, it is taken.
    fits = (USUAL in match.could_be_from_charset for match in matches if match.coherence >= best.coherence)
    name = USUAL if any(fits) else best.encoding
    return Encoding(name, remark=f"is not UTF-8 (byte {fault} is the first fault); it was read as {name}, a guess")


def decoded(path: Path, encoding: Encoding, *, keep_newlines: bool = False) -> Iterator[str]:
    r"""A file's text in parts of some megabytes, without its mark, each \r\n as \n unless they are kept.

    Raises:
        UnreadableError: the encoding does not fit all of it.
        OSError: it cannot be read.
    """
    decoder = codecs.getincrementaldecoder(encoding.name)(encoding.errors)
    held = ""
    with path.open("rb") as file:
        while True:
            data = file.read(PIECE_BYTES)
            try:
                text = held + decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                raise UnreadableError(f"is not {encoding.name} throughout: {error.reason}") from error
            if not keep_newlines:
                # The \n may lie in the next part.
                held = "\r" if data and text.endswith("\r") else ""
                text = text[: len(text) - len(held)].replace("\r\n", "\n")
            if text:
                yield text
            if not data:
                return


def pieces(texts: Iterable[str]) -> Iterator[str]:
    """A text that comes in parts, cut where tokens do not depend on it.

    A piece ends before a space or line break that follows another character, where no BPE word can reach across.
    """
    held = ""
    for text in texts:
        held += text
        if cut := _last_boundary(held):
            yield held[:cut]
            held = held[cut:]
    if held:
        yield held


def lines(texts: Iterable[str]) -> Iterator[str]:
    """The lines of a text that comes in parts, each with its line break."""
    held = ""
    for text in texts:
        *whole, held = (held + text).split("\n")
        yield from (line + "\n" for line in whole)
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
        """Count a part of the text."""
        self.characters += len(text)
        self.bytes += len(text.encode())
        self.lines += text.count("\n")
        counts = np.bincount(code_points(text))
        self._counts[: len(counts)] += counts
        if len(self.first) < 1000:
            self.first = (self.first + text)[:1000]


def survey(texts: Iterable[str]) -> Survey:
    """Read a text once and count."""
    seen = Survey()
    for text in texts:
        seen.add(text)
    return seen
