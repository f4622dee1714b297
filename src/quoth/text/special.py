"""Special tokens for tokenizers that lack them, and what a tokenizer needs for conversations."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from quoth.system.errors import InputError
from quoth.text.characters import Bytes, Characters
from quoth.text.tokenizer import Tokenizer, load
from quoth.text.tokenizer_json import TokenizerJson, parse

SYSTEM, USER, ASSISTANT, END = "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
# Only special tokens stand between the messages, so that the template needs no character that an alphabet may lack,
# and no word of a message can merge with what stands beside it.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
{{- '<|assistant|>' -}}
{%- generation -%}{{- message.content + '<|end|>' -}}{%- endgeneration -%}
{%- elif message.role in ('system', 'user') -%}
{{- '<|' + message.role + '|>' + message.content + '<|end|>' -}}
{%- else -%}
{{- raise_exception('The roles of a conversation are system, user and assistant, not ' + message.role + '.') -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""
# Special tokens that makers of tokenizers leave free, such as <|reserved_special_token_0|> and <|extra_0|>.
RESERVED = re.compile(
    r"[<\[]\|?(?:reserved(?:_special)?(?:_token)?|extra|unused|placeholder|dummy|control|special)_?\d+\|?[>\]]",
    re.IGNORECASE,
)
FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


def with_special(tokenizer: Tokenizer, names: Iterable[str]) -> Tokenizer:
    """A tokenizer with these special tokens, and otherwise the same; ids that exist keep their meaning.

    A name that is special already keeps its id. The others get the ids of the tokenizer's reserved tokens, as many as
    there are, and then ids after all others, so that the model needs that many rows more (`vocabulary` says how many).

    >>> with_special(Characters("hello"), ["<|end|>"]).special
    {'<|end|>': 4}

    Raises:
        InputError: a name is empty or stands there twice.
    """
    wanted = list(names)
    if not all(wanted) or len(set(wanted)) < len(wanted):
        raise InputError(f"Special tokens need distinct names that are not empty, not {', '.join(map(repr, wanted))}.")
    missing = [name for name in wanted if name not in tokenizer.special]
    if not missing:
        return tokenizer
    made: Tokenizer
    match tokenizer:
        case Characters():
            made = Characters(tokenizer.alphabet, [*tokenizer.special, *missing])
        case Bytes():
            made = Bytes([*tokenizer.special, *missing])
        case _:
            made = load(json.dumps(_with_added(tokenizer, missing)))
    made.begins, made.ends, made.template = tokenizer.begins, tokenizer.ends, tokenizer.template
    return made


def for_chat(tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer that conversations can be written with.

    A tokenizer that has a chat template and a token that ends an answer is returned as it is. Any other gets the
    special tokens <|system|>, <|user|>, <|assistant|> and <|end|>, of which the last one ends every turn, and quoth's
    own template for them, which marks the assistant's turns with `{% generation %}` as transformers knows it. What
    the tokenizer puts before every text, such as a BOS, comes once before the conversation.

    >>> list(for_chat(Characters("hello")).ends)
    [7]
    """
    if tokenizer.template and tokenizer.ends:
        return tokenizer
    made = with_special(tokenizer, (SYSTEM, USER, ASSISTANT, END))
    if made is tokenizer:
        made = load(tokenizer.dump())
        made.begins = tokenizer.begins
    names = {i: name for name, i in made.special.items()}
    begins = "".join(f"{{{{- {json.dumps(names[i])} -}}}}\n" for i in made.begins if i in names)
    made.ends, made.template = [made.special[END]], begins + CHAT_TEMPLATE
    return made


def _with_added(tokenizer: Tokenizer, names: list[str]) -> dict[str, Any]:
    """The `tokenizer.json` with names as special tokens: in place of reserved ones first, then at the end."""
    document: dict[str, Any] = json.loads(tokenizer.dump())
    file = parse(document)
    entries = {entry["content"]: entry for entry in document.get("added_tokens") or []}
    reserved, vocabulary, size = _reserved(file, tokenizer), document["model"]["vocab"], file.size
    for name in names:
        if name in entries:  # An added token that texts gave.
            entries[name]["special"] = True
        elif name in vocabulary:
            entries[name] = _entry(name, vocabulary[name])
        elif reserved:
            old = reserved.pop(0)
            entries[name] = {**entries.pop(old), "content": name}
            if old in vocabulary:
                vocabulary[name] = vocabulary.pop(old)
        else:
            entries[name] = _entry(name, size)
            size += 1
    # The library numbers added tokens in this order.
    document["added_tokens"] = sorted(entries.values(), key=lambda entry: int(entry["id"]))
    return document


def _entry(name: str, i: int) -> dict[str, Any]:
    return {"id": i, "content": name, **dict.fromkeys(FLAGS, False), "special": True}


def _reserved(file: TokenizerJson, tokenizer: Tokenizer) -> list[str]:
    """The special tokens that nothing uses, in the order of their ids."""
    used = {*tokenizer.begins, *tokenizer.ends, *file.begins}
    merged = {part for pair in file.merges for part in (*pair, "".join(pair))}
    template = tokenizer.template or ""
    free = [name for name, i in file.special.items() if RESERVED.fullmatch(name) and i not in used]
    free = [name for name in free if name not in merged and name not in template]
    return sorted(free, key=file.special.__getitem__)
