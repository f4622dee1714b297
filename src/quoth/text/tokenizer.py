"""Text ↔ token ids: the tokenizer that a name or a file describes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from quoth.system.errors import InputError, one_line
from quoth.system.files import as_json, read_json
from quoth.text.bpe import BPE, fits, gpt2, train_bpe
from quoth.text.characters import Bytes, Characters, code_points
from quoth.text.pretrained import Pretrained
from quoth.text.protocol import Ids, Tokenizer, decode, spelling
from quoth.text.tokenizer_json import parse

__all__ = [
    "BPE",
    "Bytes",
    "Characters",
    "Ids",
    "Pretrained",
    "Tokenizer",
    "build",
    "code_points",
    "decode",
    "gpt2",
    "load",
    "read",
    "spelling",
    "texts_of",
    "train_bpe",
]

CHAT = "chat.json"


def build(spec: str, alphabet: str, texts: Callable[[], Iterator[str]]) -> Tokenizer:
    """The tokenizer that `--tokenizer` names: characters, bytes, bpe:N or gpt2.

    `alphabet` holds every character of the data; `texts` gives the training split's text, on which BPE is trained.

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
    """The tokenizer that `dump` wrote, or that a Hugging Face `tokenizer.json` describes.

    Raises:
        InputError: the text is neither of them, or has a part that quoth does not know.
    """
    try:
        document = json.loads(text)
        kind = document.get("quoth")
        if kind == "characters":
            return Characters(document["alphabet"], document.get("special", ()))
        if kind == "bytes":
            return Bytes(document.get("special", ()))
        file = parse(document)
        return BPE(file) if fits(file) else Pretrained(file)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"This is not a tokenizer that quoth can read: {one_line(error)}.") from error


def read(folder: Path) -> Tokenizer:
    """The tokenizer in a folder's `tokenizer.json`, with the end tokens and the chat template in its `chat.json`.

    Raises:
        InputError: a file is missing or damaged.
    """
    try:
        tokenizer = load((folder / "tokenizer.json").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{folder} holds no tokenizer: {getattr(error, 'strerror', None) or error}.") from error
    if (path := folder / CHAT).exists():
        said = read_json(path)
        try:
            tokenizer.begins, tokenizer.ends, tokenizer.template = said["begins"], said["ends"], said["template"]
        except (LookupError, TypeError) as error:
            raise InputError(f"{path} does not say begins, ends and template.") from error
    return tokenizer


def texts_of(tokenizer: Tokenizer) -> dict[str, str]:
    """The texts, by file name, from which `read` makes this tokenizer again."""
    texts = {"tokenizer.json": tokenizer.dump()}
    if tokenizer.template or tokenizer.ends or tokenizer.begins:
        said = {"begins": list(tokenizer.begins), "ends": list(tokenizer.ends), "template": tokenizer.template}
        texts[CHAT] = as_json(said)
    return texts
