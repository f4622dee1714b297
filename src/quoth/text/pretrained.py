"""Tokenizers that came with somebody else's model, run by Hugging Face's own library."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from quoth.system.errors import InputError, one_line
from quoth.text.bpe import byte_characters
from quoth.text.protocol import Ids, check_unicode
from quoth.text.tokenizer_json import TokenizerJson

# SentencePiece's stand-in for a space, and its way to write a byte.
SPACE = "▁"
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# A character that Unicode keeps free, as the name of a token that no vocabulary has.
UNKNOWN = "\ufdd0"


class Pretrained:
    """Any BPE that a Hugging Face `tokenizer.json` describes, byte-level or of SentencePiece's kind.

    Added tokens are found in text unless they are special. A character that the tokenizer would drop or replace by an
    unknown token is refused. The space that SentencePiece puts before a text stays in the decoded text.

    Raises:
        InputError: the library cannot read the document.
    """

    name = "pretrained"

    def __init__(self, file: TokenizerJson) -> None:
        from tokenizers import Tokenizer

        self._document = file.document
        try:
            self._tokenizer = Tokenizer.from_str(json.dumps(_of_text(file)))
        except Exception as error:  # The library raises nothing more special.
            raise InputError(f"This tokenizer.json cannot be read: {one_line(error)}.") from error
        self._tokenizer.encode_special_tokens = True
        self.vocabulary = file.size
        self.special: Mapping[str, int] = file.special
        self.begins: Sequence[int] = file.begins
        self.ends: Collection[int] = ()
        self.template: str | None = None
        self.pieces = [b""] * self.vocabulary
        piece_of = _piece_of(file)
        for text, i in file.vocabulary.items():
            self.pieces[i] = piece_of(text)
        for text, i in file.added.items():
            self.pieces[i] = text.encode()
        for i in file.special.values():
            self.pieces[i] = b""

    def encode(self, text: str) -> Ids:
        check_unicode(text)
        try:
            return np.asarray(self._tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)
        except Exception as error:  # The library raises nothing more special.
            raise InputError(
                f"The text has a character that this tokenizer does not know ({one_line(error)})."
            ) from error

    def dump(self) -> str:
        """The document itself."""
        return json.dumps(self._document, ensure_ascii=False)


def _of_text(file: TokenizerJson) -> dict[str, Any]:
    """The document for texts: the same ids, but no way from a text to a special token.

    The library numbers an added token by its place unless the model has its spelling, so the added tokens of text go
    into the model, and the special ones, whose numbers are never asked for, out of the model.
    """
    vocabulary = {token: i for token, i in file.vocabulary.items() if token not in file.special}
    vocabulary |= file.added
    model = {**file.document["model"], "vocab": vocabulary, "unk_token": UNKNOWN}
    if model["type"] == "BPE":
        model["merges"] = [pair for pair in file.merges if not file.special.keys() & {*pair, "".join(pair)}]
    nothing = dict.fromkeys(("post_processor", "truncation", "padding"))
    return {**file.document, **nothing, "model": model}


def _piece_of(file: TokenizerJson) -> Callable[[str], bytes]:
    """What makes the bytes of a token's spelling, as the decoder would."""
    decoders = {step["type"] for step in file.kinds("decoder")}
    splitters = {step["type"] for step in file.kinds("pre_tokenizer")}
    if "ByteLevel" in decoders or (not decoders and "ByteLevel" in splitters):
        to_byte = {c: b for b, c in byte_characters().items()}
        return lambda token: bytes(to_byte[c] for c in token) if to_byte.keys() >= set(token) else token.encode()
    spaces = bool(decoders & {"Replace", "Metaspace"})

    def piece(token: str) -> bytes:
        if "ByteFallback" in decoders and (found := BYTE.fullmatch(token)):
            return bytes([int(found[1], 16)])
        return (token.replace(SPACE, " ") if spaces else token).encode()

    return piece
