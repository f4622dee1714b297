"""Text ↔ token ids: characters, bytes, and byte-level BPE, behind one protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quoth.system.errors import InputError
from quoth.system.files import as_json, read_json
from quoth.text.sources import gpt2_files

CHAT = "chat.json"
Ids = NDArray[np.int64]


class Tokenizer(Protocol):
    """What the rest of quoth asks of a tokenizer.

    `name` is what `--tokenizer` takes to make it again, `vocabulary` how many ids there are, and `pieces` the bytes
    of each id: text is their concatenation, read as UTF-8. `special` tokens have ids that no text gives; a text begins
    with `begins`, an answer ends at `ends`, and `template` is how a conversation is written down, if that was taught.
    """

    name: str
    special: Mapping[str, int]
    begins: Sequence[int]
    ends: Collection[int]
    template: str | None

    @property
    def vocabulary(self) -> int: ...

    @property
    def pieces(self) -> list[bytes]: ...

    def encode(self, text: str) -> Ids:
        """The text's ids. Raises InputError where a character has none."""
        ...

    def dump(self) -> str:
        """All that `load` needs to make this tokenizer again, as JSON."""
        ...


def decode(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
    """The text of ids; bytes that are not UTF-8 become U+FFFD.

    >>> decode(Bytes(), Bytes().encode("né"))
    'né'
    """
    pieces = tokenizer.pieces
    return b"".join(pieces[i] for i in ids).decode("utf-8", errors="replace")


class Characters:
    """The lecture's: each distinct character of the text is a token, in code point order.

    >>> Characters("hello").encode("hole").tolist()
    [1, 3, 2, 0]
    """

    name = "characters"
    special: Mapping[str, int] = MappingProxyType({})
    begins: Sequence[int] = ()
    ends: Collection[int] = ()
    template: str | None = None

    def __init__(self, alphabet: Iterable[str]) -> None:
        self.alphabet = "".join(sorted(set(alphabet)))
        # One more than every character, so that each search ends inside.
        self._points = np.append(code_points(self.alphabet), np.uint32(2**32 - 1))

    @property
    def vocabulary(self) -> int:
        return len(self.alphabet)

    @cached_property
    def pieces(self) -> list[bytes]:
        return [c.encode() for c in self.alphabet]

    def encode(self, text: str) -> Ids:
        points = code_points(text)
        ids = np.searchsorted(self._points, points)
        if (wrong := np.flatnonzero(self._points[ids] != points)).size:
            named = ", ".join(f"{text[i]!r} at position {i}" for i in wrong[:5].tolist())
            more = f" and {wrong.size - 5} more" if wrong.size > 5 else ""
            raise InputError(
                f"The characters {named}{more} are not in this tokenizer's alphabet of {self.vocabulary}; "
                "leave them out, or train with --tokenizer bytes or bpe:N, which know every text."
            )
        return ids.astype(np.int64)

    def dump(self) -> str:
        return json.dumps({"quoth": self.name, "alphabet": self.alphabet}, ensure_ascii=False)


class Bytes:
    """UTF-8 itself: 256 tokens, and no text is unknown."""

    name = "bytes"
    vocabulary = 256
    special: Mapping[str, int] = MappingProxyType({})
    begins: Sequence[int] = ()
    ends: Collection[int] = ()
    template: str | None = None

    @cached_property
    def pieces(self) -> list[bytes]:
        return [bytes([i]) for i in range(256)]

    def encode(self, text: str) -> Ids:
        try:
            return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64)
        except UnicodeEncodeError as error:
            raise InputError(f"{text[error.start]!r} at position {error.start} is no character of UTF-8.") from error

    def dump(self) -> str:
        return json.dumps({"quoth": self.name})


# GPT-2's split of text into words (Radford et al. 2019); llama.cpp knows it by the name gpt-2.
GPT2_SPLIT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
END_OF_TEXT = "<|endoftext|>"


class BPE:
    """Byte-level byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909) with GPT-2's split.

    Kept as a Hugging Face `tokenizer.json`, and run by tiktoken, which is several times as fast and gives the same
    ids. A special token such as <|endoftext|> has an id but is never made from text.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        import tiktoken

        self._document = document
        to_byte = {c: b for b, c in byte_characters().items()}
        vocabulary: dict[str, int] = document["model"]["vocab"]
        special = {t["content"]: t["id"] for t in document.get("added_tokens", [])}
        ranks = {bytes(to_byte[c] for c in t): i for t, i in vocabulary.items() if t not in special}
        self.vocabulary = max([*vocabulary.values(), *special.values()]) + 1
        self.pieces = [b""] * self.vocabulary
        for piece, i in ranks.items():
            self.pieces[i] = piece
        for text, i in special.items():
            self.pieces[i] = text.encode()
        self.special: Mapping[str, int] = special
        self.begins: Sequence[int] = ()
        self.ends: Collection[int] = [special[END_OF_TEXT]] if END_OF_TEXT in special else []
        self.template: str | None = None
        self.name = "gpt2" if END_OF_TEXT in special else f"bpe:{self.vocabulary}"
        # tiktoken merges the pair whose result has the lowest rank, so ranks must follow the merges, not the ids.
        order = [bytes(to_byte[c] for part in merge for c in part) for merge in _merges(document)]
        self._ids = np.array([ranks[bytes([b])] for b in range(256)] + [ranks[m] for m in order], dtype=np.int64)
        self._encoding = tiktoken.Encoding(
            self.name,
            pat_str=GPT2_SPLIT,
            mergeable_ranks={p: r for r, p in enumerate([bytes([b]) for b in range(256)] + order)},
            special_tokens={},
        )

    def encode(self, text: str) -> Ids:
        return self._ids[np.asarray(self._encoding.encode_ordinary(text), dtype=np.int64)]

    def dump(self) -> str:
        # Nothing is added: Hugging Face's reader refuses keys that it does not know.
        return json.dumps(self._document, ensure_ascii=False)


def train_bpe(vocabulary: int, texts: Iterator[str]) -> BPE:
    """Learn merges until there are `vocabulary` tokens, or the text has no more to give.

    Raises:
        InputError: fewer than 257 tokens are asked for: 256 are the bytes.
    """
    if vocabulary < 257:
        raise InputError(f"A BPE needs at least 257 tokens, the 256 bytes and a merge, not {vocabulary}.")
    from tokenizers import Tokenizer as HuggingFace
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = HuggingFace(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return BPE(json.loads(tokenizer.to_str()))


def gpt2() -> BPE:
    """GPT-2's own 50,257 tokens, from its published merges, proved by SHA-256."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as HuggingFace

    encoder, merges = gpt2_files()
    vocabulary = json.loads(encoder)
    lines = (line.partition(" ") for line in merges.decode().splitlines()[1:] if line)
    pairs = [(left, right) for left, _, right in lines]
    tokenizer = HuggingFace(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True)])
    return BPE(json.loads(tokenizer.to_str()))


def byte_characters() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte: itself where it prints, else a character from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(0x100 + i) for i, b in enumerate(rest)}


def _merges(document: dict[str, Any]) -> list[Sequence[str]]:
    """Pairs, whether the file has them as pairs or, as older files do, as strings with a space."""
    return [m.split(" ") if isinstance(m, str) else m for m in document["model"]["merges"]]


def code_points(text: str) -> NDArray[np.uint32]:
    """Each character's number; a lone surrogate keeps its own."""
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")


def build(spec: str, alphabet: str, texts: Callable[[], Iterator[str]]) -> Tokenizer:
    """The tokenizer that `--tokenizer` names: characters, bytes, bpe:N or gpt2.

    `alphabet` is every character of the data; `texts` gives the training split's text, for BPE to learn from.

    Raises:
        InputError: there is no such tokenizer.
    """
    kind, _, size = spec.partition(":")
    if spec == "characters":
        return Characters(alphabet)
    if spec == "bytes":
        return Bytes()
    if spec == "gpt2":
        return gpt2()
    if kind == "bpe" and size.isdecimal():
        return train_bpe(int(size), texts())
    raise InputError(f"--tokenizer must be characters, bytes, bpe:N (such as bpe:1024) or gpt2, not {spec!r}.")


def load(text: str) -> Tokenizer:
    """The tokenizer that `dump` wrote.

    Raises:
        InputError: the text is no such thing.
    """
    try:
        document = json.loads(text)
        kind = document.get("quoth")
        if kind == "characters":
            return Characters(document["alphabet"])
        if kind == "bytes":
            return Bytes()
        from quoth.text.pretrained import Pretrained

        return BPE(document) if _is_ours(document) else Pretrained(document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"This is not a tokenizer that quoth can read: {error}.") from error


def _is_ours(document: dict[str, Any]) -> bool:
    """Whether a `tokenizer.json` is a byte-level BPE of all bytes, with GPT-2's split, and nothing else."""
    if not set(byte_characters().values()) <= document["model"]["vocab"].keys():
        return False
    splitter = document.get("pre_tokenizer") or {}
    plain = splitter.get("type") == "ByteLevel" and splitter.get("use_regex", True)
    return plain and not splitter.get("add_prefix_space") and not document.get("normalizer")


def read(folder: Path) -> Tokenizer:
    """The tokenizer in a folder's `tokenizer.json`, and in `chat.json` where its answers end and how it chats."""
    try:
        tokenizer = load((folder / "tokenizer.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{folder} holds no tokenizer: {error.strerror}.") from error
    if (path := folder / CHAT).exists():
        said = read_json(path)
        tokenizer.begins, tokenizer.ends, tokenizer.template = said["begins"], said["ends"], said["template"]
    return tokenizer


def texts_of(tokenizer: Tokenizer) -> dict[str, str]:
    """The files that `read` needs to make this tokenizer again."""
    texts = {"tokenizer.json": tokenizer.dump()}
    if tokenizer.template or tokenizer.ends or tokenizer.begins:
        said = {"begins": list(tokenizer.begins), "ends": list(tokenizer.ends), "template": tokenizer.template}
        texts[CHAT] = as_json(said)
    return texts
