"""The two tokenizers without merges: characters, and bytes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from quoth.system.errors import InputError
from quoth.text.protocol import Ids, check_unicode


class Characters:
    """The lecture's tokenizer: each distinct character of the text is a token, in the order of code points.

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
                "leave them out; the tokenizers bytes and bpe:N, which a model is trained with, know every text."
            )
        return ids.astype(np.int64)

    def dump(self) -> str:
        return json.dumps({"quoth": self.name, "alphabet": self.alphabet}, ensure_ascii=False)


class Bytes:
    """The bytes of UTF-8: there are 256 tokens, and no text is unknown."""

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
        check_unicode(text)
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64)

    def dump(self) -> str:
        return json.dumps({"quoth": self.name})


def code_points(text: str) -> NDArray[np.uint32]:
    """Each character's number; a lone surrogate keeps its own."""
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")
