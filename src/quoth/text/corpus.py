"""A corpus: a text as two memory-mapped arrays of token ids, for training and validation, with a manifest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quoth.system.errors import InputError
from quoth.system.files import cache_folder, new_folder, read_json, writing
from quoth.system.world import World
from quoth.text.batches import Windows
from quoth.text.bpe import END_OF_TEXT
from quoth.text.documents import LARGEST_VALIDATION, TRAIN_SHARE, Documents, Part, read_documents
from quoth.text.finding import Found, find, unpacked_name
from quoth.text.formats import FORMATS, Reading, format_of
from quoth.text.reading import Survey, survey
from quoth.text.tokenizer import Ids, Tokenizer, build, texts_of
from quoth.text.tokenizer import read as read_tokenizer

# A BPE is trained on at most this many characters: more do not improve it, and its trainer holds its counts in memory.
BPE_CHARACTERS = 20_000_000
FORMAT = 2
LIMITS = (TRAIN_SHARE, LARGEST_VALIDATION, BPE_CHARACTERS)
COUNTED = ("characters", "tokens", "bytes")


@dataclass(frozen=True)
class Corpus:
    """The token ids for training and for validation, with the tokenizer that made them.

    `manifest` says where the ids came from: the SHA-256 of the files and of the text, what was read and what was not,
    and counts of characters, bytes and tokens.
    """

    name: str
    tokenizer: Tokenizer
    train: NDArray[np.integer]
    validation: NDArray[np.integer]
    manifest: dict[str, Any]

    @property
    def remarks(self) -> list[str]:
        """Sentences on what was guessed or left out when the data were read."""
        return list(self.manifest["documents"]["remarks"])

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


def corpus(
    data: str = "shakespeare",
    tokenizer: str | Tokenizer = "characters",
    *,
    separator: str = "",
    column: str = "",
    keep_newlines: bool = False,
    cache: Path | None = None,
) -> Corpus:
    r"""Open a corpus, and tokenize it first if that has not been done.

    Args:
        data: a named corpus, a file, a folder or a zip archive; commas separate several of them.
        tokenizer: characters, bytes, bpe:N, gpt2, or a `Tokenizer`.
        separator: the text put between documents if the tokenizer has no end token, a blank line when left out;
            plain text is also split into documents at it.
        column: the column of tables, or the key of rows, that holds the text.
        keep_newlines: whether \r\n stays as it is.
        cache: the folder for token files; `cache_folder()` when left out.

    In a single text the first 90% of the characters are for training and the rest for validation, as in the lecture;
    if the text has more than ten million characters, the last million are for validation. Several documents hold out
    as many characters, in whole documents that are chosen by their hashes.

    Raises:
        InputError: the data cannot be found, read or used.
    """
    cache, how = cache or cache_folder(), Reading(separator, column, keep_newlines)
    found = find(data, cache)
    spec = tokenizer if isinstance(tokenizer, str) else texts_of(tokenizer)
    sources = found.sources()
    # For a single file, its content and format decide; for several files, their names decide too.
    name, *more = sources
    which = list(sources.items()) if more else [*_kind(name), sources[name]]
    decides = [FORMAT, which, spec, dataclasses.astuple(how), versions(found), *LIMITS]
    folder = cache / "tokens" / hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:24]
    if not (folder / "manifest.json").exists():
        with new_folder(folder) as aside:
            _tokenize(found, tokenizer, how, aside, sources)
    made = read(folder, found.name)
    made = dataclasses.replace(made, manifest={**made.manifest, "sources": sources})
    return made if isinstance(tokenizer, str) else dataclasses.replace(made, tokenizer=tokenizer)


def versions(found: Found) -> dict[str, str]:
    """The versions of the packages that decide what is read from these files; "" for one that is not installed."""
    archives = any(name.lower().endswith(".zip") for name in found.files)
    formats = FORMATS.values() if archives else [format_of(unpacked_name(name)) for name in found.files]
    return {package: _version(package) for package in sorted({p for made in formats for p in made.packages})}


def encode(documents: Documents, tokenizer: Tokenizer, how: Reading) -> Iterator[tuple[Part, Ids]]:
    """Each part of the documents with its ids; if there are several, each document ends with the tokenizer's end token.

    If the tokenizer has no end token, the separator or a blank line is encoded in its place.
    """
    token = end_token(tokenizer)
    text = documents.end(how) if token is None and len(documents) > 1 else ""
    for part in documents.parts():
        ids = tokenizer.encode(part.text + text if part.ends else part.text)
        if part.ends and token is not None and len(documents) > 1:
            ids = np.append(ids, token)
        yield part._replace(text=part.text + text if part.ends else part.text), ids


def end_token(tokenizer: Tokenizer) -> int | None:
    """The id that ends a document, or None if the tokenizer has none."""
    return tokenizer.special.get(END_OF_TEXT, next(iter(tokenizer.ends), None))


def encode_all(
    data: str, tokenizer: Tokenizer, *, separator: str = "", column: str = "", keep_newlines: bool = False
) -> tuple[Ids, list[str]]:
    """The ids of all documents of some data, with none held out, and remarks on how they were read.

    Raises:
        InputError: the data cannot be found or read.
    """
    how = Reading(separator, column, keep_newlines)
    with reading_folder() as folder:
        documents = read_documents(find(data), how, folder)
        whole = dataclasses.replace(documents, cuts=documents.sizes)
        return np.concatenate([ids for _, ids in encode(whole, tokenizer, how)]), documents.remarks


@contextmanager
def reading_folder(cache: Path | None = None) -> Iterator[Path]:
    """A folder in the cache for files that are unpacked while data are read; it is removed at the end."""
    place = (cache or cache_folder()) / "reading"
    with writing(place):
        place.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=place) as folder:
            yield Path(folder)


def read(folder: Path, name: str) -> Corpus:
    """The corpus in a folder of token files, which are memory-mapped."""
    manifest = read_json(folder / "manifest.json")
    dtype = np.dtype(manifest["dtype"])
    arrays = []
    for split in ("train", "validation"):
        path, count = folder / f"{split}.bin", manifest[f"{split}_tokens"]
        if not path.is_file() or path.stat().st_size != count * dtype.itemsize:
            raise InputError(f"{path} is damaged; delete {folder} and it will be made again.")
        arrays.append(np.memmap(path, dtype=dtype, mode="r") if count else np.empty(0, dtype))
    return Corpus(name, read_tokenizer(folder), arrays[0], arrays[1], manifest)


def _tokenize(found: Found, tokenizer: str | Tokenizer, how: Reading, folder: Path, sources: dict[str, str]) -> None:
    with reading_folder(folder.parent.parent) as unpacked:
        documents = read_documents(found, how, unpacked)
        end = documents.end(how)
        seen = survey(documents.texts(end))
        check_variety(seen, found)

        def texts() -> Iterator[str]:
            left = BPE_CHARACTERS
            for text in documents.texts(end, only="train"):
                # The text is passed in lines, since the trainer holds many pieces at once.
                yield from text[:left].splitlines(True)
                left -= len(text)
                if left <= 0:
                    return

        made = build(tokenizer, "".join(seen.alphabet), texts) if isinstance(tokenizer, str) else tokenizer
        dtype = np.dtype(np.uint8 if made.vocabulary <= 2**8 else np.uint16 if made.vocabulary <= 2**16 else np.uint32)
        counts: Counter[str] = Counter()
        with (folder / "train.bin").open("wb") as train, (folder / "validation.bin").open("wb") as validation:
            for part, ids in encode(documents, made, how):
                file = train if part.split == "train" else validation
                file.write(ids.astype(dtype.newbyteorder("<")).tobytes())
                counts[f"{part.split}_characters"] += len(part.text)
                counts[f"{part.split}_tokens"] += len(ids)
                counts[f"{part.split}_bytes"] += len(part.text.encode())
    manifest = {
        "format": FORMAT,
        "sources": sources,
        "text_sha256": documents.sha256,
        "documents": documents.facts(),
        "tokenizer": made.name,
        "tokenizer_sha256": hashlib.sha256(made.dump().encode()).hexdigest(),
        "vocabulary": made.vocabulary,
        "dtype": dtype.newbyteorder("<").str,
        "characters": counts["train_characters"] + counts["validation_characters"],
        **{f"{split}_{what}": counts[f"{split}_{what}"] for what in COUNTED for split in ("train", "validation")},
    }
    for file_name, content in texts_of(made).items():
        (folder / file_name).write_text(content, encoding="utf-8")
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")


def check_variety(seen: Survey, found: Found) -> None:
    """Refuse a text that repeats a single character.

    Raises:
        InputError: the text does so.
    """
    if len(seen.alphabet) == 1:
        where = next(iter(found.files.values())) if len(found.files) == 1 else found.data
        raise InputError(f"{where} holds one distinct character, {next(iter(seen.alphabet))!r}: nothing to learn.")


def _kind(name: str) -> list[str]:
    """The parts of a file's name that decide how the file is read."""
    inner = unpacked_name(name)
    return [format_of(inner).name, name[len(inner) :].lower(), "zip" * name.lower().endswith(".zip")]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
