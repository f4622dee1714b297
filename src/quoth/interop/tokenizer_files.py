"""Tokenizers as other programs read them; the same text gives the same ids there."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from quoth.system.errors import InputError, short
from quoth.text.bpe import byte_characters
from quoth.text.tokenizer import Tokenizer, spelling
from quoth.text.tokenizer_json import parse

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
# How llama.cpp's names for splits are written in a tokenizer.json.
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REGEX = {
    "llama-bpe": rf"{_SHORT}|{_LETTERS}|\p{{N}}{{1,3}}|{_REST}",
    "qwen2": rf"{_SHORT}|{_LETTERS}|\p{{N}}|{_REST}",
}
# The splits whose words llama.cpp looks up whole before it merges.
IGNORE_MERGES = ("llama-bpe",)
SPLITS: dict[str, dict[str, Any]] = {
    "gpt-2": BYTE_LEVEL,
    "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL]},
    **{
        name: {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
                {**BYTE_LEVEL, "use_regex": False},
            ],
        }
        for name, regex in _REGEX.items()
    },
}

# The merges of a GGUF file that has none: llama.cpp wants one at least. Two zero bytes would become a token that the
# vocabulary lacks, and so stay two.
NO_MERGES = [f"{byte_characters()[0]} {byte_characters()[0]}"]


def tokenizer_json(tokenizer: Tokenizer) -> dict[str, Any]:
    """The `tokenizer.json` that Hugging Face's library `tokenizers` reads.

    Bytes and plain characters become a byte-level BPE that merges nothing. Characters of several bytes have no place in
    one without ids for their parts, so an alphabet with such is looked up character by character.

    Raises:
        InputError: a special token is spelled as another token is.
    """
    saved: dict[str, Any] = json.loads(tokenizer.dump())
    if "quoth" not in saved:
        same = list(parse(saved).begins) == list(tokenizer.begins)
        return saved if same else {**saved, "post_processor": _before_text(tokenizer)}
    special = {i: name for name, i in tokenizer.special.items()}
    pieces = {i: piece for i, piece in enumerate(tokenizer.pieces) if i not in special}
    if all(len(piece) == 1 for piece in pieces.values()):
        shown = byte_characters()
        vocabulary = {shown[piece[0]]: i for i, piece in pieces.items()}
        _check_names(tokenizer, vocabulary)
        return document({"type": "BPE", "vocab": vocabulary, "merges": []}, BYTE_LEVEL, BYTE_LEVEL, special)
    vocabulary = {piece.decode(): i for i, piece in pieces.items()}
    _check_names(tokenizer, vocabulary)
    return characters_json(vocabulary, special)


def _check_names(tokenizer: Tokenizer, spellings: Collection[str]) -> None:
    """Refuse special tokens that are spelled as other tokens are: in files they are told apart by nothing else.

    Raises:
        InputError: there is one.
    """
    for name in tokenizer.special:
        if name in spellings:
            raise InputError(
                f"The special token {short(name)} is spelled as another token is, so it cannot be exported."
            )


def _before_text(tokenizer: Tokenizer) -> dict[str, Any] | None:
    """The post-processor that puts what texts begin with before them."""
    if not tokenizer.begins:
        return None
    names = {i: spelling(tokenizer, i).decode(errors="replace") for i in tokenizer.begins}
    tokens = [{"SpecialToken": {"id": names[i], "type_id": 0}} for i in tokenizer.begins]
    text, second = ({"Sequence": {"id": one, "type_id": n}} for n, one in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [*tokens, text],
        "pair": [*tokens, text, second],
        "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]} for i, name in names.items()},
    }


def characters_json(vocabulary: Mapping[str, int], special: Mapping[int, str] | None = None) -> dict[str, Any]:
    """A `tokenizer.json` that looks up each character."""
    return document(
        {"type": "WordLevel", "vocab": dict(vocabulary), "unk_token": "[UNK]"},
        {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False},
        {"type": "Fuse"},
        special,
    )


def document(
    model: dict[str, Any],
    splitter: dict[str, Any],
    decoder: dict[str, Any],
    special: Mapping[int, str] | None = None,
    added: Mapping[int, str] | None = None,
    *,
    normalizer: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A `tokenizer.json` of these parts, with special tokens that no text gives, and added ones that texts do."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    kinds = [(i, name, True) for i, name in (special or {}).items()]
    kinds += [(i, name, False) for i, name in (added or {}).items()]
    entries = [{"id": i, "content": name, **flags, "special": kind} for i, name, kind in sorted(kinds)]
    # The library numbers added tokens by their place, unless the model has them.
    vocabulary = {**model["vocab"], **{name: i for i, name, _ in kinds}}
    parts = {"normalizer": normalizer, "pre_tokenizer": splitter, "decoder": decoder}
    nothing = dict.fromkeys(("truncation", "padding", "post_processor"))
    return {"version": "1.0", "added_tokens": entries, **nothing, **parts, "model": {**model, "vocab": vocabulary}}


def tokenizer_config_json(tokenizer: Tokenizer, context: int) -> dict[str, Any]:
    """The `tokenizer_config.json` that transformers reads."""
    named = {token: text for text, token in tokenizer.special.items()}
    ends = [named[token] for token in tokenizer.ends if token in named]
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }
    if not tokenizer.begins:
        config["add_bos_token"] = False
    elif len(tokenizer.begins) == 1 and tokenizer.begins[0] in named:
        config |= {"add_bos_token": True, "bos_token": named[tokenizer.begins[0]]}
    if ends:
        config |= {"eos_token": ends[0], "pad_token": ends[0]}
    if tokenizer.template:
        config["chat_template"] = tokenizer.template
    return config


@dataclass(frozen=True)
class GGUFVocabulary:
    """A byte-level BPE in GPT-2's printable letters.

    Attributes:
        tokens: the spelling of each id; of special and added tokens the name.
        added: the ids of the added tokens that texts give.
        merges: pairs with a space between.
        split: llama.cpp's name for the split of a text into words.
    """

    tokens: list[str]
    added: frozenset[int]
    merges: list[str]
    split: str


def as_byte_level(tokenizer: Tokenizer) -> GGUFVocabulary:
    """A tokenizer as GGUF keeps it.

    In GGUF, unlike in a `tokenizer.json`, the parts of a merge need no ids, so every alphabet has a place.

    Raises:
        InputError: llama.cpp knows no tokenizer of this kind, or a special token is spelled as another token is.
    """
    saved: dict[str, Any] = json.loads(tokenizer.dump())
    shown = byte_characters()
    names = ["".join(shown[b] for b in piece) for piece in tokenizer.pieces]
    if "quoth" in saved:
        _check_names(tokenizer, names)
        for name, i in tokenizer.special.items():
            names[i] = name
        merges = [merge for piece in tokenizer.pieces for merge in _merges_of(piece)]
        return GGUFVocabulary(names, frozenset(), merges or NO_MERGES, "gpt-2")
    split = next((name for name, splitter in SPLITS.items() if _same(splitter, saved.get("pre_tokenizer"))), None)
    byte_level = "ByteLevel" in json.dumps(saved.get("decoder"))
    # llama.cpp has no normalizers; Qwen2's NFC is left out there by everybody.
    fits = saved.get("normalizer") is None or (split, saved["normalizer"]) == ("qwen2", {"type": "NFC"})
    added = {t["content"]: t for t in saved.get("added_tokens") or [] if not t.get("special", True)}
    trims = any(t.get(flag) for t in added.values() for flag in ("single_word", "lstrip", "rstrip"))
    if saved["model"]["type"] != "BPE" or split is None or not byte_level or not fits or trims:
        raise InputError("llama.cpp knows no tokenizer of this kind; export to hf, or train with bpe, bytes or gpt2.")
    if bool(saved["model"].get("ignore_merges")) != (split in IGNORE_MERGES) and not _merges_reach_all(saved["model"]):
        raise InputError(f"llama.cpp would not cut words of the split {split} as this tokenizer does; export to hf.")
    for name, i in [*tokenizer.special.items(), *((name, token["id"]) for name, token in added.items())]:
        names[i] = name
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in saved["model"]["merges"]]
    return GGUFVocabulary(names, frozenset(token["id"] for token in added.values()), merges, split)


def _merges_reach_all(model: dict[str, Any]) -> bool:
    """Whether the merges make each token of its own letters, so that looking words up first changes nothing."""
    from tokenizers import Tokenizer as Library

    library = Library.from_str(json.dumps({"version": "1.0", "model": {**model, "ignore_merges": False}}))
    tokens = list(model["vocab"])
    return all(found.tokens == [token] for token, found in zip(tokens, library.encode_batch(tokens), strict=True))


def _same(one: Any, other: Any) -> bool:
    """Whether two parts of a `tokenizer.json` do the same; where tokens' offsets are cut does not matter."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = (one.keys() | other.keys()) - {"trim_offsets"}
        return all(_same(one.get(key), other.get(key)) for key in keys)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _merges_of(piece: bytes) -> list[str]:
    """The merges that make one token of a character's bytes, from the left."""
    shown = [byte_characters()[b] for b in piece]
    return [f"{''.join(shown[:n])} {shown[n]}" for n in range(1, len(shown))]
