"""The two tokenizers without merges: characters, and bytes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from quoth.system.errors import InputError, short
from quoth.text.protocol import Ids, check_unicode


class Characters:
    """The lecture's tokenizer: each distinct character of the text is a token, in the order of code points.

    The ids of special tokens follow those of the characters.

    >>> Characters("hello").encode("hole").tolist()
    [1, 3, 2, 0]
    >>> Characters("hello", special=["<|end|>"]).special
    {'<|end|>': 4}

    Raises:
        ValueError: the names of the special tokens are no distinct texts, or one is empty.
    """

    begins: Sequence[int] = ()
    ends: Collection[int] = ()
    template: str | None = None

    def __init__(self, alphabet: Iterable[str], special: Iterable[str] = ()) -> None:
        self.alphabet = "".join(sorted(set(alphabet)))
        self.special: Mapping[str, int] = numbered(special, len(self.alphabet))
        self.name = "characters+special" if self.special else "characters"
        # One more than every character, so that each search ends inside.
        self._points = np.append(code_points(self.alphabet), np.uint32(2**32 - 1))

    @property
    def vocabulary(self) -> int:
        return len(self.alphabet) + len(self.special)

    @cached_property
    def pieces(self) -> list[bytes]:
        return [c.encode() for c in self.alphabet] + [b""] * len(self.special)

    def encode(self, text: str) -> Ids:
        points = code_points(text)
        ids = np.searchsorted(self._points, points)
        if (wrong := np.flatnonzero(self._points[ids] != points)).size:
            named = ", ".join(f"{text[i]!r} at position {i}" for i in wrong[:5].tolist())
            more = f" and {wrong.size - 5} more" if wrong.size > 5 else ""
            raise InputError(
                f"The characters {named}{more} are not in this tokenizer's alphabet of {len(self.alphabet)}; "
                "leave them out; the tokenizers bytes and bpe:N, which a model is trained with, know every text."
            )
        return ids.astype(np.int64)

    def dump(self) -> str:
        return json.dumps(
            {"quoth": "characters", "alphabet": self.alphabet, **_saved(self.special)}, ensure_ascii=False
        )


class Bytes:
    """The bytes of UTF-8: there are 256 tokens, and special ones after them; no text is unknown.

    Raises:
        ValueError: the names of the special tokens are no distinct texts, or one is empty.
    """

    begins: Sequence[int] = ()
    ends: Collection[int] = ()
    template: str | None = None

    def __init__(self, special: Iterable[str] = ()) -> None:
        self.special: Mapping[str, int] = numbered(special, 256)
        self.name = "bytes+special" if self.special else "bytes"

    @property
    def vocabulary(self) -> int:
        return 256 + len(self.special)

    @cached_property
    def pieces(self) -> list[bytes]:
        return [bytes([i]) for i in range(256)] + [b""] * len(self.special)

    def encode(self, text: str) -> Ids:
        check_unicode(text)
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64)

    def dump(self) -> str:
        return json.dumps({"quoth": "bytes", **_saved(self.special)}, ensure_ascii=False)


def numbered(names: Iterable[str], first: int) -> dict[str, int]:
    """The ids of special tokens, from `first` on in the order of their names.

    Raises:
        ValueError: the names are no distinct texts, or one is empty.
    """
    if isinstance(names, str):
        raise ValueError(f"the special tokens are {short(names)}, which is no list of names")
    given = list(names)
    for name in given:
        if not isinstance(name, str) or not name:
            raise ValueError(f"the special token {short(name)} has no name")
        name.encode()  # Half of a character, which JSON may have, is no text.
    if len(set(given)) < len(given):
        raise ValueError("a special token is named twice")
    return {name: first + i for i, name in enumerate(given)}


def _saved(special: Mapping[str, int]) -> dict[str, list[str]]:
    """What `dump` says of special tokens: nothing where there are none."""
    return {"special": list(special)} if special else {}


def code_points(text: str) -> NDArray[np.uint32]:
    """Each character's number; a lone surrogate keeps its own."""
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")
