"""Write files that are whole or absent: each is written under another name, synced, and then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quoth.system.errors import InputError


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace a file in one step: even after a crash, a reader sees either the old file or the new one.

    Raises:
        InputError: the disk is full or the folder may not be written.
    """
    data = content.encode() if isinstance(content, str) else content
    with writing(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextmanager
def new_folder(path: Path, bytes: int = 0) -> Iterator[Path]:  # noqa: A002
    """A folder that gets its name only after the block has ended without an error and all its files are synced.

    Raises:
        InputError: there is no room for `bytes` bytes, or the parent folder may not be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(path.parent).free < bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield aside
            rename_folder(aside, path)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise


def rename_folder(aside: Path, path: Path) -> None:
    """Rename a folder once all its files are on the disk; it replaces any folder that had the name."""
    for file in aside.rglob("*"):
        _sync(file)
    _sync(aside)
    aside.chmod(0o755)
    old = aside.with_name(f"{aside.name}.old")
    try:
        if path.exists():
            os.replace(path, old)
        os.replace(aside, path)
        _sync(path.parent)
    except BaseException:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError into an InputError with a sentence."""
    try:
        yield
    except OSError as error:
        raise InputError(refusal(path, error)) from error


def refusal(path: Path, error: OSError) -> str:
    """A sentence on why a path could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"No space is left to write {path}; what was written before is kept."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path} cannot be written: {os.strerror(error.errno)}. Choose a folder that you may write with --out."
    return f"{path} cannot be written: {error.strerror or error}."


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hex; the file is read in pieces.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error


def as_json(value: Any) -> str:
    """A value as JSON, in the form of every JSON file that quoth writes."""
    return json.dumps(value, indent=2) + "\n"


def cache_folder() -> Path:
    """The folder for rebuilt corpora and token files: $QUOTH_CACHE, or `quoth` in the user's cache folder."""
    if given := os.environ.get("QUOTH_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quoth"
