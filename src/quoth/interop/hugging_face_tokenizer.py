"""The tokenizer of a Hugging Face folder: `tokenizer.json`, and what the files around it say of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quoth.interop.hugging_face import read_object
from quoth.system.errors import InputError, one_line, short
from quoth.text.tokenizer import Tokenizer, load

# The fields of tokenizer_config.json that name special tokens.
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
LISTED = ("additional_special_tokens", "extra_special_tokens")
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def read_tokenizer_folder(folder: Path, config: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer, with what texts begin with, what answers end at, and how a conversation is written down.

    Raises:
        InputError: a file is missing, is damaged, or has a part that quoth does not know.
    """
    if not (folder / "tokenizer.json").is_file():
        raise InputError(f"{folder} has no tokenizer.json.")
    said, generation = (_object(folder / name) for name in ("tokenizer_config.json", "generation_config.json"))
    document = read_object(folder / "tokenizer.json")
    ids = _mark_special(document, said)
    tokenizer = load(json.dumps(document))
    _check_numbers(document)
    names = {name: _text(said.get(name)) for name in ("bos_token", "eos_token")}
    begin, end = (ids.get(names[name] or "") for name in ("bos_token", "eos_token"))
    if said.get("add_eos_token"):
        raise InputError("The tokenizer puts its eos_token behind every text (add_eos_token), which quoth does not do.")
    if "add_bos_token" in said or "add_eos_token" in said:  # Then the post-processor does not count.
        tokenizer.begins = [begin] if said.get("add_bos_token") and begin is not None else []
    ends = generation.get("eos_token_id", config.get("eos_token_id"))
    ends = ends if isinstance(ends, list) else [ends]
    tokenizer.ends = list(dict.fromkeys(i for i in [*ends, end] if i is not None))
    template = folder / "chat_template.jinja"
    source = template.read_text(encoding="utf-8") if template.is_file() else said.get("chat_template")
    if isinstance(source, list):  # Several by name.
        source = next((one["template"] for one in source if one.get("name") == "default"), None)
    tokenizer.template = with_names(source, names)
    return tokenizer


def with_names(source: Any, names: Mapping[str, str | None]) -> str | None:
    """A template that knows the tokens that it may name."""
    if not source:
        return None
    if not isinstance(source, str):
        raise InputError(f"The chat template is {short(source)}, which is no text.")
    known = "".join(f"{{%- set {name} = {json.dumps(text)} -%}}" for name, text in names.items() if text is not None)
    return known + source


def _mark_special(document: dict[str, Any], said: Mapping[str, Any]) -> dict[str, int]:
    """Mark the tokens that tokenizer_config.json names as special, as transformers does; all ids by their spellings.

    Raises:
        InputError: tokenizer_config.json adds a token that tokenizer.json does not have.
    """
    added = {token["content"]: token for token in document.get("added_tokens") or []}
    vocabulary = document["model"]["vocab"]
    vocabulary = vocabulary if isinstance(vocabulary, dict) else {}
    for i, token in (said.get("added_tokens_decoder") or {}).items():
        there = added.get(token["content"])
        if there is None or str(there["id"]) != i or any(there.get(flag) != token.get(flag, False) for flag in FLAGS):
            raise InputError(
                f"tokenizer_config.json and tokenizer.json do not agree on the added token {short(token['content'])}."
            )
    listed = [token for name in LISTED if isinstance(said.get(name), list) for token in said[name]]
    for name in map(_text, [*(said.get(name) for name in NAMED), *listed]):
        if name in added:
            added[name]["special"] = True
        elif name in vocabulary:
            flags = dict.fromkeys(FLAGS, False)
            added[name] = {"id": vocabulary[name], "content": name, **flags, "special": True}
            document["added_tokens"] = [*(document.get("added_tokens") or []), added[name]]
    return {**vocabulary, **{name: token["id"] for name, token in added.items()}}


def _check_numbers(document: dict[str, Any]) -> None:
    """Refuse added tokens whose ids in the file are not those that transformers gives them, by their places."""
    from tokenizers import Tokenizer as Library

    try:
        library = Library.from_str(json.dumps({**document, "post_processor": None}))
    except Exception as error:  # The library raises nothing more special.
        raise InputError(f"This tokenizer.json cannot be read: {one_line(error)}.") from error
    for token in document.get("added_tokens") or []:
        name, i = token["content"], token["id"]
        if (given := library.token_to_id(name)) != i:
            raise InputError(f"The added token {short(name)} has the id {i}, but its place in the file gives {given}.")


def _text(token: Any) -> str | None:
    """A special token in a config: a string, or an object that holds one."""
    return token.get("content") if isinstance(token, dict) else token


def _object(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}
