"""A conversation as tokens: the template that a model was tuned with, run in a sandbox."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from quoth.text.tokenizer import Tokenizer

# In what people write these stand around the number of a special token, while the template runs: code points that
# Unicode keeps free of characters.
OPEN, CLOSE = "\ufdd0", "\ufdd1"


class TemplateError(Exception):
    """The template refused a conversation, or is broken; the message says which."""


class Template:
    """A chat template in Jinja, as Hugging Face's tokenizers carry them.

    What people wrote is text and nothing else: a special token that is spelled out in a message is read as letters.

    >>> Template("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}").text(   # doctest: +SKIP
    ...     [{"role": "user", "content": "hi"}])
    '<|user|>hi'
    """

    def __init__(self, source: str) -> None:
        self.source = source

    @cached_property
    def _compiled(self) -> Any:
        from jinja2 import TemplateError as Broken
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _refuse
        try:
            return environment.from_string(self.source)
        except Broken as error:
            raise TemplateError(f"The model's chat template is broken: {error}.") from error

    def text(self, messages: Sequence[Mapping[str, str]], *, answer: bool = True) -> str:
        """The conversation as the model was taught to read it; with `answer`, up to where its own turn begins.

        Raises:
            TemplateError: the template is broken, or refuses.
        """
        try:
            return str(self._compiled.render(messages=messages, add_generation_prompt=answer))
        except TemplateError:
            raise
        except Exception as error:  # A template is a program of somebody else's.
            raise TemplateError(f"The model's chat template refuses this conversation: {error}.") from error

    def ids(self, messages: Sequence[Mapping[str, str]], tokenizer: Tokenizer) -> list[int]:
        """Its ids, special tokens among them.

        Raises:
            TemplateError: the template is broken, or refuses.
            InputError: a character that the tokenizer does not know.
        """
        special = tokenizer.special
        guarded = [{**m, "content": _hidden(m["content"], special)} for m in messages]
        ids: list[int] = []
        for piece in _split(self.text(guarded), special):
            if piece in special:
                ids.append(special[piece])
            elif piece:
                ids += tokenizer.encode(_shown(piece, special)).tolist()
        return ids


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _hidden(text: str, special: Mapping[str, int]) -> str:
    """The text with the number of each special token in its place."""
    text = text.replace(OPEN, "").replace(CLOSE, "")
    pieces = _split(text, special)
    return "".join(f"{OPEN}{special[piece]}{CLOSE}" if piece in special else piece for piece in pieces)


def _shown(text: str, special: Mapping[str, int]) -> str:
    """The text with special tokens spelled out again."""
    for name, token in special.items():
        text = text.replace(f"{OPEN}{token}{CLOSE}", name)
    return text


def _split(text: str, special: Mapping[str, int]) -> list[str]:
    """The text cut before and after each special token, the longest first."""
    if not special:
        return [text]
    pattern = "|".join(re.escape(token) for token in sorted(special, key=len, reverse=True))
    return re.split(f"({pattern})", text)
