"""A corpus: a text as two memory-mapped arrays of token ids, train and validation, with a manifest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quoth.system.errors import InputError, suggestion
from quoth.system.files import cache_folder, new_folder, read_json, sha256_of
from quoth.system.world import World
from quoth.text.batches import Windows
from quoth.text.reading import pieces, survey, text_files
from quoth.text.sources import SOURCES, materialise
from quoth.text.tokenizer import Tokenizer, build, texts_of
from quoth.text.tokenizer import read as read_tokenizer

TRAIN_SHARE = 0.9
# Every loss that is reported is exact, over the whole validation split, so the split of a large text is kept at a size
# that is judged in seconds; a million characters know the loss to about 0.002 nats.
LARGEST_VALIDATION = 1_000_000
# A BPE learns no more from more, and its trainer counts in memory.
BPE_CHARACTERS = 20_000_000
FORMAT = 1


@dataclass(frozen=True)
class Corpus:
    """Token ids to learn from and to be judged by, with the tokenizer that made them.

    `manifest` says where they came from: the sha256 of the text, counts of characters, bytes and tokens.
    """

    name: str
    tokenizer: Tokenizer
    train: NDArray[np.integer]
    validation: NDArray[np.integer]
    manifest: dict[str, Any]

    def batches(
        self,
        batch: int,
        context: int,
        *,
        seed: int = 0,
        accumulate: int = 1,
        world: World | None = None,
        device: str = "cpu",
    ) -> Windows:
        """Shuffled training windows; see `Windows`."""
        return Windows(
            self.train, batch=batch, context=context, seed=seed, accumulate=accumulate, world=world, device=device
        )


def find(data: str, cache: Path | None = None) -> tuple[str, list[Path]]:
    """A name for the data and its files: a file or folder if there is one of that name, else a named corpus.

    Raises:
        InputError: it is none of these.
    """
    path = Path(data).expanduser()
    if path.exists():
        return path.resolve().stem or "data", text_files(path)
    if data in SOURCES:
        return data, [materialise(data, (cache or cache_folder()) / "texts")]
    raise InputError(f"{data!r} is neither a file or folder nor a named corpus{suggestion(data, SOURCES)}.")


def corpus(
    data: str = "shakespeare",
    tokenizer: str | Tokenizer = "characters",
    *,
    separator: str | None = None,
    errors: str = "strict",
    cache: Path | None = None,
) -> Corpus:
    """Open a corpus, tokenizing it first where that has not been done.

    Args:
        data: a named corpus, a UTF-8 file, or a folder of them.
        tokenizer: characters, bytes, bpe:N, gpt2, or a tokenizer that is at hand.
        separator: what stands between documents; the split then falls between two of them.
        errors: strict, or replace for text that is not quite UTF-8.
        cache: where token files are kept; `cache_folder()` when left out.

    The first 90% of the characters are for training and the rest for validation, as in the lecture; of a text of more
    than ten million characters the last million.

    Raises:
        InputError: the data cannot be found, read or used.
    """
    cache = cache or cache_folder()
    name, files = find(data, cache)
    spec = tokenizer if isinstance(tokenizer, str) else tokenizer.dump()
    sources = [sha256_of(file) for file in files]
    key = json.dumps([FORMAT, sources, spec, separator, errors, TRAIN_SHARE, LARGEST_VALIDATION, BPE_CHARACTERS])
    folder = cache / "tokens" / hashlib.sha256(key.encode()).hexdigest()[:24]
    if not (folder / "manifest.json").exists():
        with new_folder(folder) as aside:
            _tokenize(files, tokenizer, separator, errors, aside, sources)
    made = read(folder, name)
    return made if isinstance(tokenizer, str) else dataclasses.replace(made, tokenizer=tokenizer)


def read(folder: Path, name: str) -> Corpus:
    """The corpus that a folder of token files holds, memory-mapped."""
    manifest = read_json(folder / "manifest.json")
    dtype = np.dtype(manifest["dtype"])
    arrays = []
    for split in ("train", "validation"):
        path, count = folder / f"{split}.bin", manifest[f"{split}_tokens"]
        if not path.is_file() or path.stat().st_size != count * dtype.itemsize:
            raise InputError(f"{path} is damaged; delete {folder} and it will be made again.")
        arrays.append(np.memmap(path, dtype=dtype, mode="r") if count else np.empty(0, dtype))
    return Corpus(name, read_tokenizer(folder), arrays[0], arrays[1], manifest)


def _tokenize(
    files: list[Path], tokenizer: str | Tokenizer, separator: str | None, errors: str, folder: Path, sources: list[str]
) -> None:
    seen = survey(files, errors)
    cut = max(int(TRAIN_SHARE * seen.characters), seen.characters - LARGEST_VALIDATION)
    if separator:
        cut = between_documents(files, separator, cut, errors)

    def texts() -> Iterator[str]:
        # By lines, since the trainer holds many pieces at once.
        return (
            line
            for _, text in _split(files, errors, min(cut, BPE_CHARACTERS), only="train")
            for line in text.splitlines(True)
        )

    made = build(tokenizer, "".join(seen.alphabet), texts) if isinstance(tokenizer, str) else tokenizer
    dtype = np.dtype(np.uint8 if made.vocabulary <= 2**8 else np.uint16 if made.vocabulary <= 2**16 else np.uint32)
    counts = dict.fromkeys(("train_tokens", "validation_tokens", "train_bytes", "validation_bytes"), 0)
    with (folder / "train.bin").open("wb") as train, (folder / "validation.bin").open("wb") as validation:
        for split, text in _split(files, errors, cut):
            ids = made.encode(text)
            (train if split == "train" else validation).write(ids.astype(dtype.newbyteorder("<")).tobytes())
            counts[f"{split}_tokens"] += len(ids)
            counts[f"{split}_bytes"] += len(text.encode())
    root = Path(os.path.commonpath([file.parent for file in files]))
    names = [file.relative_to(root).as_posix() for file in files]
    manifest = {
        "format": FORMAT,
        "sources": dict(zip(names, sources, strict=True)),
        "tokenizer": made.name,
        "tokenizer_sha256": hashlib.sha256(made.dump().encode()).hexdigest(),
        "vocabulary": made.vocabulary,
        "dtype": dtype.newbyteorder("<").str,
        "characters": seen.characters,
        "train_characters": cut,
        **counts,
    }
    for file, content in texts_of(made).items():
        (folder / file).write_text(content, encoding="utf-8")
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")


def _split(files: list[Path], errors: str, cut: int, only: str | None = None) -> Iterator[tuple[str, str]]:
    """The pieces, each with the split that it belongs to; the one across the cut is cut."""
    position = 0
    for text in pieces(files, errors):
        here = min(max(cut - position, 0), len(text))
        position += len(text)
        if here:
            yield "train", text[:here]
        if here < len(text):
            if only == "train":
                return
            yield "validation", text[here:]


def between_documents(files: list[Path], separator: str, wanted: int, errors: str) -> int:
    """Where the first document at or after `wanted` characters starts, else the last document.

    Raises:
        InputError: after no separator there is more than white space.
    """
    position, tail = 0, ""
    start: int | None = None
    last: int | None = None
    for text in pieces(files, errors):
        joined, at, found = tail + text, 0, 0
        while found >= 0:
            found = joined.find(separator, at)
            # A separator may lie across two pieces, so the last characters wait.
            end = found if found >= 0 else max(at, len(joined) - len(separator) + 1)
            if start is not None and joined[at:end].strip():
                if start >= wanted:
                    return start
                start, last = None, start
            at = end
            if found >= 0:
                at += len(separator)
                start = position + at
        position, tail = position + at, joined[at:]
    if start is not None and tail.strip():
        last = start
    if last is None:
        raise InputError(f"The separator {separator!r} stands between no two documents of the text.")
    return last
