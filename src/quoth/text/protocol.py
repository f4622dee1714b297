"""What a tokenizer is, and text from its ids."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quoth.system.errors import InputError

Ids = NDArray[np.int64]


class Tokenizer(Protocol):
    """What the rest of quoth asks of a tokenizer.

    Attributes:
        name: what `--tokenizer` takes to make the tokenizer again; or where only its file can do that, "pretrained",
            "characters+special" or "bytes+special".
        special: the ids of the special tokens by their names. No text gives these ids, and they give no text: the
            pieces of special tokens are empty.
        begins: the ids that stand before every text.
        ends: the ids that an answer ends at.
        template: how a conversation is written down, in Jinja, if the model was taught any.
        vocabulary: how many ids there are.
        pieces: the bytes of each id; a text is their concatenation, read as UTF-8.
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


def check_unicode(text: str) -> None:
    """Refuse lone surrogates, which a command line makes of bytes that are not UTF-8.

    Raises:
        InputError: there is one; the message says where.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{text[error.start]!r} at position {error.start} is no character of UTF-8.") from error


def decode(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
    """The text of ids, without special tokens; bytes that are not UTF-8 become U+FFFD.

    >>> from quoth.text.characters import Bytes
    >>> decode(Bytes(), Bytes().encode("né"))
    'né'
    """
    pieces = tokenizer.pieces
    return b"".join(pieces[i] for i in ids).decode("utf-8", errors="replace")


def spelling(tokenizer: Tokenizer, i: int) -> bytes:
    """What to show for one id: its piece, or the name of a special token."""
    return (
        tokenizer.pieces[i] or next((name for name, special in tokenizer.special.items() if special == i), "").encode()
    )
