"""Archives and compressed files, unpacked one member at a time into temporary files, within bounds."""

from __future__ import annotations

import errno
import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple
from zipfile import ZipFile, ZipInfo

from quoth.text.finding import COMPRESSED, is_hidden
from quoth.text.reading import PIECE_BYTES, UnreadableError, is_binary

# Texts seldom shrink to a thirtieth. What unpacks to more than this many times its size, and is no small file, is
# taken for a bomb.
LARGEST_RATIO = 200
ALLOWED_BYTES = 64 * 2**20
LARGEST_MEMBERS = 1_000_000


class Member(NamedTuple):
    """A file that can be read, by its own name or in an archive, or why it cannot be."""

    name: str
    path: Path
    problem: str = ""


class LeftOut(NamedTuple):
    """Why a member of an archive is not looked at: it is hidden or binary."""

    hidden: bool


def members(name: str, path: Path, folder: Path) -> Iterator[Member | LeftOut]:
    """The file itself; unpacked in `folder` if it is compressed, and each of its members if it is a zip archive.

    A member's file is gone when the next one is asked for.

    Raises:
        UnreadableError, OSError or what the libraries raise: the file is damaged, or unpacks to too much.
    """
    if path.suffix.lower() == ".zip":
        with ZipFile(path) as archive:
            yield from _zipped(name, archive, folder)
    elif path.suffix.lower() in COMPRESSED:
        inner = Path(path.stem).suffix.lower()
        if inner in (".zip", *COMPRESSED):
            raise UnreadableError("holds an archive within an archive, which is not opened")
        with _decompressed(path) as stream, _temporary(folder, inner) as unpacked:
            copy(stream, unpacked, path.stat().st_size)
            yield Member(name, unpacked)
    else:
        yield Member(name, path)


def _zipped(name: str, archive: ZipFile, folder: Path) -> Iterator[Member | LeftOut]:
    infos = archive.infolist()
    if len(infos) > LARGEST_MEMBERS:
        raise UnreadableError(f"holds {len(infos):,} members, above the {LARGEST_MEMBERS:,} allowed")
    for info in sorted(infos, key=lambda info: info.filename):
        inside = PurePosixPath(info.filename)
        if info.is_dir():
            continue
        if is_hidden(inside):
            yield LeftOut(hidden=True)
            continue
        shown = f"{name}/{inside}"
        if problem := _problem(info):
            yield Member(shown, Path(), problem)
            continue
        with _temporary(folder, inside.suffix.lower()) as unpacked:
            try:
                with archive.open(info) as stream:
                    copy(stream, unpacked, info.compress_size)
            except Exception as error:
                yield Member(shown, Path(), why(error))
                continue
            if is_binary(unpacked) and inside.suffix.lower() not in (".docx", ".epub", ".parquet", ".pdf"):
                yield LeftOut(hidden=False)
            else:
                yield Member(shown, unpacked)


def _problem(info: ZipInfo) -> str:
    inside = PurePosixPath(info.filename)
    if info.flag_bits & 1:
        return "is encrypted with a password"
    if inside.is_absolute() or ".." in inside.parts:
        return "has a name that leads out of its archive"
    if inside.suffix.lower() in (".zip", *COMPRESSED):
        return "is an archive within an archive, which is not opened"
    return ""


@contextmanager
def _decompressed(path: Path) -> Iterator[IO[bytes]]:
    if path.suffix.lower() == ".gz":
        with gzip.open(path) as stream:
            yield stream  # type: ignore[misc]
        return
    import zstandard

    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as stream:
        yield stream


@contextmanager
def _temporary(folder: Path, suffix: str) -> Iterator[Path]:
    path = folder / f"member{suffix}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def copy(stream: IO[bytes], path: Path, packed: int) -> None:
    """Unpack a stream of `packed` bytes into a file.

    Raises:
        UnreadableError: it unpacks to far too much.
    """
    size, largest = 0, max(ALLOWED_BYTES, LARGEST_RATIO * packed)
    with path.open("wb") as file:
        while data := stream.read(PIECE_BYTES):
            size += len(data)
            if size > largest:
                raise UnreadableError(
                    f"unpacks to over {largest / 2**20:,.0f} MB from {packed / 2**20:,.1f} MB, as a zip bomb does"
                )
            file.write(data)


def why(error: Exception) -> str:
    """Why a file cannot be read, as a clause that goes on after its name.

    Raises:
        OSError: the disk is full, which is no fault of the file that was read.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise error
    if isinstance(error, UnreadableError):
        return str(error)
    if isinstance(error, ImportError):
        return f"needs a package that is not installed ({error.name}): pip install 'quoth[documents]'"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    words = " ".join(str(error).split())[:160] or type(error).__name__
    return f"is damaged: {words}"
