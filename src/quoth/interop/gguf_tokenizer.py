"""The tokenizer in a GGUF file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from quoth.interop.fields import Fields
from quoth.interop.tokenizer_files import BYTE_LEVEL, IGNORE_MERGES, NO_MERGES, SPLITS, characters_json, document
from quoth.system.errors import InputError, short
from quoth.text.bpe import byte_characters
from quoth.text.tokenizer import Tokenizer, load

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 1, 2, 3, 4, 5
# llama.cpp finds user-defined tokens in every text, and these in none.
SPECIAL = (UNKNOWN, CONTROL, UNUSED)
# The fields that name a token which llama.cpp ends an answer at.
ENDS = ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")
# Tokens that llama.cpp ends an answer at, and takes for control tokens, by their names alone.
END_NAMES = (
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>", "<EOT>", "_<EOT>",
    "<|end_of_text|>", "<end_of_utterance>", "<｜end▁of▁sentence｜>",
)  # fmt: skip
# Fields that say nothing of how a byte-level BPE reads a text.
IGNORED = (
    *(f"tokenizer.ggml.{name}_token_id" for name in (
        "bos", "cls", "fim_mid", "fim_pre", "fim_suf", "mask", "middle", "padding", "prefix", "seperator", "suffix",
        "unknown",
    )),
    "tokenizer.ggml.scores", "tokenizer.ggml.token_type_count", "tokenizer.chat_templates",
)  # fmt: skip


def read_tokenizer(facts: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that a file's fields describe, but for its template.

    Raises:
        InputError: it is of a kind that quoth cannot read from GGUF, is damaged, or has a field that is not known.
    """
    fields = Fields({name: value for name, value in facts.items() if name.startswith("tokenizer.")}, "The file")
    kind, split = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre") or "default"
    if kind != "gpt2" or split not in SPLITS:
        raise InputError(
            f"The file has a tokenizer of the kind {short(kind)} ({short(split)}), which quoth cannot read from GGUF; "
            "import the folder that the file was made from."
        )
    fields.ignore([*IGNORED, *(name for name in fields if name.startswith("tokenizer.chat_template"))])
    for name in ("eos", "sep"):
        fields.only(f"tokenizer.ggml.add_{name}_token", False)
    fields.only("tokenizer.ggml.add_space_prefix", False)
    tokens, types = _tokens(fields)
    begin = _token(fields, "bos", tokens)
    ends = {_token(fields, name, tokens) for name in ENDS} - {None}
    ends |= {i for i, name in enumerate(tokens) if name in END_NAMES and types[i] in SPECIAL}
    begins = fields.flag("tokenizer.ggml.add_bos_token", split == "llama-bpe")
    made = _document(tokens, types, fields.get("tokenizer.ggml.merges") or [], str(split))
    fields.get("tokenizer.huggingface.json")  # A second copy, which llama.cpp does not read.
    fields.finish()
    tokenizer = load(json.dumps(made))
    tokenizer.ends = sorted(i for i in ends if i is not None)
    tokenizer.begins = [begin] if begins and begin is not None else []
    return tokenizer


def special_names(facts: Mapping[str, Any]) -> dict[str, str]:
    """The names that a template may use for the first and the last token."""
    tokens = facts["tokenizer.ggml.tokens"]
    found = {name: facts.get(f"tokenizer.ggml.{name}_id") for name in ("bos_token", "eos_token")}
    return {name: tokens[i] for name, i in found.items() if i is not None}


def _tokens(fields: Fields) -> tuple[list[str], list[int]]:
    """Each token's spelling and type."""
    tokens, types = fields.needed("tokenizer.ggml.tokens"), fields.get("tokenizer.ggml.token_type")
    types = [NORMAL] * len(tokens) if types is None else list(map(int, types))
    if len(types) != len(tokens):
        raise InputError(f"The file has {len(tokens):,} tokens but {len(types):,} types of tokens.")
    known = (NORMAL, USER_DEFINED, *SPECIAL)
    for i, (name, kind) in enumerate(zip(tokens, types, strict=True)):
        if kind not in known:
            raise InputError(f"The token {short(name)} is of the type {kind}, which quoth does not know.")
        if name in END_NAMES:
            types[i] = CONTROL
    return tokens, types


def _token(fields: Fields, name: str, tokens: list[str]) -> int | None:
    """The id of a token that a field names."""
    i = fields.get(f"tokenizer.ggml.{name}_token_id")
    if i is None:
        return None
    if type(i) is not int or not 0 <= i < len(tokens):
        raise InputError(f"The file has {name}_token_id {short(i)}, which is none of its {len(tokens):,} tokens.")
    return i


def _document(tokens: list[str], types: list[int], merges: Any, split: str) -> dict[str, Any]:
    """The `tokenizer.json` of a byte-level BPE in GGUF."""
    special = {i: tokens[i] for i, kind in enumerate(types) if kind in SPECIAL}
    added = {i: tokens[i] for i, kind in enumerate(types) if kind == USER_DEFINED}
    vocabulary: dict[str, int] = {}
    for i, token in enumerate(tokens):
        if i not in special and i not in added and vocabulary.setdefault(token, i) != i:
            raise InputError(f"The file has the token {short(token)} twice.")
    listed = [str(merge) for merge in merges]
    pairs = [merge.split(" ") for merge in listed if listed != NO_MERGES]
    if any(part not in vocabulary for pair in pairs for part in (*pair, "".join(pair))):
        whole = _characters(vocabulary)
        if whole is None:
            wrong = next(pair for pair in pairs if not {*pair, "".join(pair)} <= vocabulary.keys())
            raise InputError(f"The file's merge {short(' '.join(wrong))} names a token that the file lacks.")
        return characters_json(whole, special)
    normalizer = {"type": "NFC"} if split == "qwen2" else None
    # Llama 3 takes a word that is a token whole, whatever its merges.
    model = {"type": "BPE", "vocab": vocabulary, "merges": pairs, "ignore_merges": split in IGNORE_MERGES}
    return document(model, SPLITS[split], BYTE_LEVEL, special, added, normalizer=normalizer)


def _characters(vocabulary: Mapping[str, int]) -> dict[str, int] | None:
    """The characters that the tokens are, if all are: merges through parts without ids make such, as exports do."""
    to_byte = {c: b for b, c in byte_characters().items()}
    if not to_byte.keys() >= set("".join(vocabulary)):
        return None
    whole = {bytes(to_byte[c] for c in token).decode(errors="replace"): i for token, i in vocabulary.items()}
    return whole if len(whole) == len(vocabulary) and all(len(character) == 1 for character in whole) else None
