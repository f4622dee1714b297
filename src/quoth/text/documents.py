"""The documents of some data: read once, kept on disk, each one once, and split into training and validation."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quoth.system.errors import InputError
from quoth.text.chats import is_whatsapp
from quoth.text.finding import Found
from quoth.text.formats import TEXT, Reading, format_of
from quoth.text.reading import PIECE_BYTES, decoded, encoding_of, pieces
from quoth.text.unpacking import LeftOut, Member, members, why

TRAIN_SHARE = 0.9
# Every loss that is reported is exact, over the whole validation split, so the split of a large text is kept at a size
# that is judged in seconds; a million characters know the loss to about 0.002 nats.
LARGEST_VALIDATION = 1_000_000
BLANK_LINE = "\n\n"
SHOWN = 8


class Part(NamedTuple):
    """Some of a document's text; `ends` where nothing of it follows in this split."""

    split: str
    text: str
    ends: bool


@dataclass
class Documents:
    """Documents with their sizes in characters, and how many characters of each are for training.

    `cuts[i]` is 0 for a document of the validation split and `sizes[i]` for one of the training split. A document that
    is cut between is for both. `load(i)` gives the text of document i in pieces. `sha256` is of all that is learned
    from.
    """

    load: Callable[[int], Iterator[str]]
    sizes: NDArray[np.int64]
    cuts: NDArray[np.int64]
    sha256: str
    formats: dict[str, int]
    skipped: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    repeated: int = 0

    def __len__(self) -> int:
        return len(self.sizes)

    def parts(self, only: str = "") -> Iterator[Part]:
        """All documents in pieces that a tokenizer may take one by one, or one split of them."""
        for i, (size, cut) in enumerate(zip(self.sizes.tolist(), self.cuts.tolist(), strict=True)):
            if only != "validation" or cut < size:
                yield from (part for part in _parts(self.load(i), cut, size) if only in ("", part.split))

    def texts(self, end: str, only: str = "") -> Iterator[str]:
        """The same as text, with `end` after each document if there are several."""
        end = end if len(self) > 1 else ""
        for part in self.parts(only):
            yield part.text + (end if part.ends else "")

    def end(self, how: Reading) -> str:
        """What is written after each of several documents where the tokenizer has no token for it."""
        return how.separator or BLANK_LINE

    def facts(self) -> dict[str, Any]:
        """What is told of the documents, for people and for the manifest."""
        return {
            "number": len(self),
            "formats": self.formats,
            "repeated": self.repeated,
            "skipped": self.skipped,
            "remarks": self.remarks,
        }


def _parts(texts: Iterable[str], cut: int, size: int) -> Iterator[Part]:
    position = 0
    for text in texts:
        here = min(max(cut - position, 0), len(text))
        position += len(text)
        if here:
            yield Part("train", text[:here], position >= cut)
        if here < len(text):
            yield Part("validation", text[here:], position == size)


def read_documents(found: Found, how: Reading, folder: Path) -> Documents:
    """Read all files once. What is not plain text is kept in `folder` as long as the documents are used.

    Raises:
        InputError: no file can be read, or there is nothing in them to learn from.
    """
    if plain := _single_text(found, how):
        return plain
    spool = _Spool(folder / "documents")
    formats: list[tuple[str, int]] = []
    skipped: dict[str, str] = {}
    remarks: list[str] = []
    hidden, binary = found.hidden, found.binary
    for name, path in found.files.items():
        try:
            for member in members(name, path, folder):
                if isinstance(member, LeftOut):
                    hidden, binary = hidden + member.hidden, binary + (not member.hidden)
                elif said := _add(member, how, spool, formats, remarks):
                    skipped[member.name] = said
        except Exception as error:
            skipped[name] = why(error)
    _check(found, skipped, len(spool))
    if how.separator and len(spool) < 2:
        raise InputError(f"The separator {how.separator!r} stands between no two documents of the text.")
    kept = spool.distinct()
    if repeated := len(spool) - len(kept):
        remarks.append(f"{_many(repeated, 'document')} repeated another to the letter and {_was(repeated)} left out.")
    remarks += _left_out(hidden, binary)
    if skipped:
        remarks.append(_list_of(skipped))
    sizes, digests = spool.sizes()[kept], spool.digests()[kept]
    cuts, whole = split(sizes, digests)
    if not whole and len(sizes) > 1:
        remarks.append("There are too few documents to hold out whole ones, so the last part of each is held out.")
    sha256 = hashlib.sha256(digests.tobytes()).hexdigest()
    counted: Counter[str] = Counter()
    for (name, _), number in zip(
        formats, np.diff(np.searchsorted(kept, [0, *(end for _, end in formats)])), strict=True
    ):
        counted[name] += int(number)
    return Documents(spool.loader(kept), sizes, cuts, sha256, dict(+counted), skipped, remarks, repeated)


def split(sizes: NDArray[np.int64], digests: NDArray[Any]) -> tuple[NDArray[np.int64], bool]:
    """How many characters of each document are for training, and whether only whole documents are held out.

    Documents are held out in the order of their digests, which is as good as random and the same on every machine,
    until there are 10% of the characters, or a million. Where so few whole ones fit that they are less than half of
    that, the last part of each document is held out, as it is of a single one.
    """
    total = int(sizes.sum())
    wanted = min(total - int(TRAIN_SHARE * total), LARGEST_VALIDATION)
    cuts, held = sizes.copy(), 0
    if len(sizes) > 1:
        for i in np.argsort(digests, kind="stable").tolist():
            if held + sizes[i] <= 1.1 * wanted:
                cuts[i] = 0
                held += int(sizes[i])
            if held >= wanted:
                break
    if held and held >= wanted / 2:
        return cuts, True
    most = (LARGEST_VALIDATION * (sizes / total)).astype(np.int64) if len(sizes) > 1 else LARGEST_VALIDATION
    return np.maximum((TRAIN_SHARE * sizes).astype(np.int64), sizes - most), False


def _single_text(found: Found, how: Reading) -> Documents | None:
    """A plain text as it is, from its own file however large; None where the data are anything else."""
    (name, path), *more = found.files.items()
    if more or how.separator or format_of(name).read is not TEXT.read or path.suffix.lower() in (".zip", ".gz", ".zst"):
        return None
    try:
        encoding = encoding_of(path)

        def load(_: int) -> Iterator[str]:
            return pieces(decoded(path, encoding, keep_newlines=how.keep_newlines))

        size, digest = 0, hashlib.sha256()
        for text in load(0):
            if not size and is_whatsapp(text):
                return None
            size += len(text)
            digest.update(text.encode())
    except Exception as error:
        raise InputError(f"{path} {why(error)}.") from error
    if not size:
        raise InputError(f"{path} is empty: there is nothing to learn from.")
    remarks = [f"{name} {encoding.remark}."] if encoding.remark else []
    remarks += _left_out(found.hidden, found.binary)
    sizes = np.array([size], np.int64)
    cuts, _ = split(sizes, np.zeros(1))
    return Documents(load, sizes, cuts, digest.hexdigest(), {format_of(name).name: 1}, remarks=remarks)


def _add(member: Member, how: Reading, spool: _Spool, formats: list[tuple[str, int]], remarks: list[str]) -> str:
    """Add a file's documents, all or none. Why it could not be read, if so."""
    if member.problem:
        return member.problem
    before, notes = spool.mark(), list[str]()
    made = format_of(member.path.name)
    try:
        for part in made.read(member.path, how, notes.append):
            spool.end() if part is None else spool.write(part)
        spool.end()
    except Exception as error:
        spool.back_to(before)
        return why(error)
    if spool.mark() == before:
        return "is empty: there is nothing to learn from"
    formats.append((made.name, spool.mark()))
    remarks += [f"{member.name} {note}." for note in notes]
    return ""


class _Spool:
    """Texts in one file, with where each begins, its characters, and what it hashes to; about 40 bytes each."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self._starts, self._sizes, self._digests = array("q", [0]), array("q"), bytearray()
        self._begin()

    def __len__(self) -> int:
        return len(self._sizes)

    def _begin(self) -> None:
        self._size, self._blank, self._held, self._digest = 0, True, "", hashlib.sha256()

    def write(self, text: str) -> None:
        """Go on with a document. Line breaks before and after it are dropped."""
        text = self._held + text if self._size else text.lstrip("\n")
        body = text.rstrip("\n")
        self._held = text[len(body) :]
        # JSON can hold half a character, which UTF-8 cannot.
        data = body.encode("utf-8", "replace")
        self._file.write(data)
        self._digest.update(data)
        self._size += len(body)
        self._blank = self._blank and not body.strip()

    def end(self) -> None:
        """End a document; a blank one is none."""
        if self._blank:
            self._file.seek(self._starts[-1])
            self._file.truncate()
        else:
            self._starts.append(self._file.tell())
            self._sizes.append(self._size)
            self._digests += self._digest.digest()[:16]
        self._begin()

    def mark(self) -> int:
        """How many documents there are, for `back_to`."""
        return len(self)

    def back_to(self, mark: int) -> None:
        """Forget the documents since, and the one that was begun."""
        del self._starts[mark + 1 :], self._sizes[mark:], self._digests[16 * mark :]
        self._blank = True
        self.end()

    def sizes(self) -> NDArray[np.int64]:
        return np.array(self._sizes, np.int64)

    def digests(self) -> NDArray[Any]:
        """128 bits each, which sort as the bytes do."""
        return np.frombuffer(bytes(self._digests), [("a", ">u8"), ("b", ">u8")])

    def distinct(self) -> NDArray[np.int64]:
        """The places of the documents that repeat none before."""
        return np.sort(np.unique(self.digests(), return_index=True)[1]).astype(np.int64)

    def loader(self, kept: NDArray[np.int64]) -> Callable[[int], Iterator[str]]:
        """A function that reads the i-th of the kept documents in pieces."""
        self._file.flush()

        def parts(place: int) -> Iterator[str]:
            position, end = self._starts[place], self._starts[place + 1]
            rest = b""
            while position < end:
                self._file.seek(position)
                data = self._file.read(min(PIECE_BYTES, end - position))
                position += len(data)
                data = rest + data
                # A character may lie across two reads.
                whole = len(data) if position == end else _whole_characters(data)
                yield data[:whole].decode()
                rest = data[whole:]

        return lambda i: pieces(parts(int(kept[i])))


def _whole_characters(data: bytes) -> int:
    """Up to where UTF-8 ends with a whole character."""
    end = len(data)
    while end and data[end - 1] & 0xC0 == 0x80:
        end -= 1
    return max(end - 1, 0)


def _check(found: Found, skipped: dict[str, str], number: int) -> None:
    if number:
        return
    if len(found.files) == 1 and len(skipped) == 1:
        name, said = next(iter(skipped.items()))
        where = next(iter(found.files.values())) if name in found.files else name
        raise InputError(f"{where} {said}.")
    if not skipped:
        raise InputError(f"{found.data} holds no files that can be read.")
    raise InputError(f"None of the {len(skipped)} files of {found.data} can be read: {_listed(skipped)}.")


def _list_of(skipped: dict[str, str]) -> str:
    return f"{_many(len(skipped), 'file')} could not be read and {_was(len(skipped))} left out: {_listed(skipped)}."


def _listed(skipped: dict[str, str]) -> str:
    said = "; ".join(f"{name} {why}" for name, why in list(skipped.items())[:SHOWN])
    return said + (f"; and {len(skipped) - SHOWN} more" if len(skipped) > SHOWN else "")


def _left_out(hidden: int, binary: int) -> list[str]:
    counts = [_many(n, kind) for n, kind in ((hidden, "hidden file"), (binary, "binary file")) if n]
    return [f"{' and '.join(counts)} {_was(hidden + binary)} left out."] if counts else []


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
