"""Somebody else's model as one of ours: its weights, and the tokenizer that goes with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from quoth.interop.hugging_face import our_config, read_folder
from quoth.interop.vocabulary import BYTE_LEVEL, SPLITS, document, of_characters
from quoth.interop.weights import imported
from quoth.model.config import GPTConfig
from quoth.model.gpt import GPT
from quoth.system.errors import InputError
from quoth.system.files import read_json
from quoth.text.tokenizer import Tokenizer, byte_characters, load

# Of a token in GGUF: special ones are never made from text.
_CONTROL, _USER_DEFINED = 3, 4


def adopt(path: Path) -> tuple[GPT, Tokenizer]:
    """A Hugging Face folder, or a GGUF file, as a model and its tokenizer; nothing of it is run.

    Raises:
        InputError: it is neither, is damaged, or has a part that quoth does not know.
    """
    try:
        return _adopt(path)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # What may be wrong in what others wrote has no end.
        raise InputError(f"{path} is not as such models are: {type(error).__name__}: {error}.") from error


def _adopt(path: Path) -> tuple[GPT, Tokenizer]:
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise InputError(f"There is no {path}.")
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"GGUF":
        return _gguf(path)
    if start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise InputError(f"{path} is a pickle, which can run code and is never read; ask for safetensors or GGUF.")
    raise InputError(f"{path} is no GGUF file and no folder of Hugging Face's.")


def _folder(folder: Path) -> tuple[GPT, Tokenizer]:
    config, weights = read_folder(folder)
    c, architecture = our_config(config)
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise InputError(f"{folder} has no tokenizer.json.")
    tokenizer = load(file.read_text(encoding="utf-8"))
    generation = _json(folder / "generation_config.json")
    said = _json(folder / "tokenizer_config.json")
    ends = generation.get("eos_token_id", config.get("eos_token_id"))
    tokenizer.ends = [ends] if isinstance(ends, int) else list(ends or ())
    template = folder / "chat_template.jinja"
    source = template.read_text(encoding="utf-8") if template.is_file() else said.get("chat_template")
    if isinstance(source, list):  # Several by name.
        source = next((one["template"] for one in source if one.get("name") == "default"), None)
    tokenizer.template = _with_names(source, {name: _text(said.get(name)) for name in ("bos_token", "eos_token")})
    return _filled(c, imported(weights, c, architecture), tokenizer, folder), tokenizer


def _gguf(path: Path) -> tuple[GPT, Tokenizer]:
    from quoth.interop.llama_cpp import read_gguf

    c, architecture, weights, facts = read_gguf(path)
    kind, split = facts.get("tokenizer.ggml.model"), facts.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or split not in SPLITS:
        raise InputError(
            f"{path} has a tokenizer of the kind {kind} ({split}), which quoth cannot read from GGUF; import the "
            "folder that the file was made from."
        )
    tokens = facts["tokenizer.ggml.tokens"]
    tokenizer = load(json.dumps(_document(facts, split)))
    begin, end = (facts.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos"))
    tokenizer.ends = [end] if end is not None else []
    if begin is not None and facts.get("tokenizer.ggml.add_bos_token", split == "llama-bpe"):
        tokenizer.begins = [begin]
    known = {name: facts.get(f"tokenizer.ggml.{name}_id") for name in ("bos_token", "eos_token")}
    names = {name: tokens[i] for name, i in known.items() if i is not None}
    tokenizer.template = _with_names(facts.get("tokenizer.chat_template"), names)
    return _filled(c, imported(weights, c, architecture), tokenizer, path), tokenizer


def _document(facts: Mapping[str, Any], split: str) -> dict[str, Any]:
    """The `tokenizer.json` of a byte-level BPE in GGUF."""
    tokens, types = facts["tokenizer.ggml.tokens"], facts.get("tokenizer.ggml.token_type") or ()
    special = {i: tokens[i] for i, kind in enumerate(types) if kind in (_CONTROL, _USER_DEFINED)}
    vocabulary = {token: i for i, token in enumerate(tokens) if i not in special}
    merges = [merge.split(" ") for merge in facts.get("tokenizer.ggml.merges", ())]
    if any(part not in vocabulary for pair in merges for part in (*pair, "".join(pair))):
        # Merges through parts that have no ids make characters, which are looked up whole.
        to_byte = {c: b for b, c in byte_characters().items()}
        whole = {bytes(to_byte[c] for c in token).decode(errors="replace"): i for token, i in vocabulary.items()}
        if all(len(character) == 1 for character in whole) and len(whole) == len(vocabulary):
            return of_characters(whole, special)
        merges = [pair for pair in merges if {*pair, "".join(pair)} <= vocabulary.keys()]
    normalizer = {"type": "NFC"} if split == "qwen2" else None
    # Llama 3 takes a word that is a token whole, whatever its merges.
    model = {"type": "BPE", "vocab": vocabulary, "merges": merges, "ignore_merges": split == "llama-bpe"}
    return document(model, SPLITS[split], BYTE_LEVEL, special, normalizer=normalizer)


def _filled(c: GPTConfig, state: dict[str, Tensor], tokenizer: Tokenizer, path: Path) -> GPT:
    """The model with these weights. Rows for ids that no token has, which some leave spare, are cut off.

    Raises:
        InputError: a weight has another shape, or there are more tokens than rows.
    """
    tokens = tokenizer.vocabulary
    if tokens > c.vocabulary:
        raise InputError(f"{path} has a tokenizer of {tokens:,} tokens for a model of {c.vocabulary:,}.")
    for name in ("embed.weight", "head.weight"):
        if len(state[name]) == c.vocabulary:
            state[name] = state[name][:tokens]
    model = GPT(c.replace(vocabulary=tokens))
    for name, tensor in model.state_dict().items():
        if name in state and state[name].shape != tensor.shape:
            got, wanted = (" × ".join(map(str, t.shape)) for t in (state[name], tensor))
            raise InputError(f"{path} has {name} of {got}, but its shape asks for {wanted}.")
    model.load_state_dict(state)
    return model.eval()


def _with_names(source: str | None, names: Mapping[str, str | None]) -> str | None:
    """A template that knows the tokens that it may name."""
    if not source:
        return None
    known = "".join(f"{{%- set {name} = {json.dumps(text)} -%}}" for name, text in names.items() if text is not None)
    return known + source


def _text(token: Any) -> str | None:
    """A special token in a config: a string, or an object that holds one."""
    return token.get("content") if isinstance(token, dict) else token


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
