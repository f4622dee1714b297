"""Manifests: a folder's manifest lists the hash of each of its files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from quoth.system.errors import InputError
from quoth.system.files import as_json, sha256_of

MANIFEST = "manifest.json"
FORMAT = 1
# Tensors are safetensors and the rest is text, so no file that is read can run code, as a pickle could.
KINDS = (".safetensors", ".json", ".toml")


def seal(folder: Path) -> None:
    """Write the manifest of all files in a folder."""
    files = {file.name: sha256_of(file) for file in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(as_json({"format": FORMAT, "files": files}), encoding="utf-8")


def verify(folder: Path) -> None:
    """Check that the folder's files are those that its manifest lists, bit for bit.

    Raises:
        InputError: a file is missing, differs, or is not in the manifest.
    """
    if problem := next(problems(folder), None):
        raise InputError(problem)


def problems(folder: Path) -> Iterator[str]:
    """A sentence for each thing that is wrong with a checkpoint."""
    if not folder.is_dir():
        yield f"There is no checkpoint {folder}."
        return
    try:
        written = (folder / MANIFEST).read_bytes()
        manifest = json.loads(written)
        version, files = manifest["format"], dict(manifest["files"])
    except (OSError, ValueError, TypeError, KeyError):
        yield f"The checkpoint {folder} is broken: its {MANIFEST} is missing or damaged."
        return
    if version != FORMAT:
        yield f"The checkpoint {folder} is of another version of quoth: format {version}, and this one reads {FORMAT}."
        return
    # The manifest has no hash of itself, but there is only one way to write its content.
    if as_json(manifest).encode() != written:
        yield f"The checkpoint {folder} is broken: its {MANIFEST} is damaged."
    for name, digest in files.items():
        if Path(name).name != name or not name.endswith(KINDS):
            yield f"The checkpoint {folder} holds {name}, which is none of {', '.join(KINDS)}, and is not read."
        elif not (folder / name).is_file() or sha256_of(folder / name) != digest:
            yield f"The checkpoint {folder} is broken: {name} is missing or was changed since it was saved."
    for extra in sorted({file.name for file in folder.iterdir()} - {MANIFEST, *files}):
        yield f"The checkpoint {folder} holds {extra}, which its {MANIFEST} does not list."
