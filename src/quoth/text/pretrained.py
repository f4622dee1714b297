"""Tokenizers that came with somebody else's model, run by Hugging Face's own library."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from quoth.system.errors import InputError
from quoth.text.tokenizer import Ids, byte_characters

# SentencePiece's stand-in for a space, and its way to write a byte.
SPACE = "▁"
BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Pretrained:
    """Any BPE that a Hugging Face `tokenizer.json` describes, byte-level or of SentencePiece's kind.

    Special tokens have ids but are never made from text.

    Raises:
        InputError: the document is of another kind, or damaged.
    """

    name = "pretrained"

    def __init__(self, document: dict[str, Any]) -> None:
        from tokenizers import Tokenizer

        if document.get("model", {}).get("type") not in ("BPE", "WordLevel"):
            raise InputError(f"A tokenizer of the kind {document.get('model', {}).get('type')!r} cannot be read.")
        self._document = document
        tokens = document.get("added_tokens", [])
        ordinary = [token for token in tokens if not token.get("special", True)]
        plain = {**document, "added_tokens": ordinary, "post_processor": None, "truncation": None, "padding": None}
        try:
            self._tokenizer = Tokenizer.from_str(json.dumps(plain))
            # What stands before every text.
            self.begins: Sequence[int] = Tokenizer.from_str(json.dumps(document)).encode("").ids
        except Exception as error:  # The library raises nothing more special.
            raise InputError(f"This tokenizer.json cannot be read: {error}.") from error
        added = {token["content"]: token["id"] for token in tokens}
        vocabulary: dict[str, int] = document["model"]["vocab"]
        self.vocabulary = max([*vocabulary.values(), *added.values()]) + 1
        self.special: Mapping[str, int] = {t["content"]: t["id"] for t in tokens if t.get("special", True)}
        self.ends: Collection[int] = ()
        self.template: str | None = None
        self.pieces = [b""] * self.vocabulary
        byte_level = "ByteLevel" in json.dumps(document.get("decoder")) or "ByteLevel" in json.dumps(
            document.get("pre_tokenizer")
        )
        to_byte = {c: b for b, c in byte_characters().items()}
        for text, i in vocabulary.items():
            self.pieces[i] = bytes(to_byte[c] for c in text) if byte_level else _piece(text)
        for text, i in added.items():
            self.pieces[i] = text.encode()

    def encode(self, text: str) -> Ids:
        """The text's ids.

        Raises:
            InputError: a character has none.
        """
        try:
            return np.asarray(self._tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)
        except Exception as error:  # The library raises nothing more special.
            raise InputError(f"The text has a character that this tokenizer does not know ({error}).") from error

    def dump(self) -> str:
        """The document itself."""
        return json.dumps(self._document, ensure_ascii=False)


def _piece(token: str) -> bytes:
    if found := BYTE.fullmatch(token):
        return bytes([int(found[1], 16)])
    return token.replace(SPACE, " ").encode()
