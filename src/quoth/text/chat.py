"""A conversation as tokens: the template that a model was tuned with, in which nobody can speak for another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from quoth.text.sandbox import Sandbox, TemplateError
from quoth.text.tokenizer import Tokenizer

__all__ = ["LongConversationError", "Template", "TemplateError"]

# Templates compare these with words of their own; no other text of a message is spared.
WORDS = {"role": ("system", "developer", "user", "assistant", "tool"), "type": ("text",)}
# Code points of private use, the last ones of all: one that a conversation does not hold stands for a character in it.
STAND_INS = range(0x10FFFD, 0x100000, -1)


class LongConversationError(Exception):
    """A conversation has more tokens than are wanted, at least `tokens`."""

    def __init__(self, tokens: int) -> None:
        super().__init__(f"The conversation has {tokens:,} tokens or more.")
        self.tokens = tokens


class Template:
    """A chat template in Jinja, as Hugging Face's tokenizers carry them.

    What people wrote is text and nothing else: a special token that is spelled out in a message is read as letters.
    A template that does not know developers hears them as the system.

    >>> Template("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}").text(   # doctest: +SKIP
    ...     [{"role": "user", "content": "hi"}])
    '<|user|>hi'
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._sandbox = Sandbox(source)
        self._knows_developers = "developer" in source
        self._facts: tuple[Tokenizer, SpecialTokens, int] | None = None

    def text(self, messages: Sequence[Mapping[str, Any]], *, answer: bool = True) -> str:
        """The conversation as the model was taught to read it; with `answer`, up to where its own turn begins.

        Raises:
            TemplateError: the template is broken, refuses, or takes too much time, memory or output.
        """
        return self._sandbox.render([self._known(message) for message in messages], answer=answer)

    def ids(self, messages: Sequence[Mapping[str, Any]], tokenizer: Tokenizer, *, most: int | None = None) -> list[int]:
        """Its ids, special tokens among them.

        Raises:
            TemplateError: the template is broken, refuses, or takes too much time, memory or output.
            InputError: a character that the tokenizer does not know.
            LongConversationError: there are more than `most`; a long text is not cut into tokens to find out.
        """
        special, longest = self._facts_of(tokenizer)
        masked, table = special.mask(messages, self.source)
        ids: list[int] = []
        for piece in special.split(self.text(masked)):
            if piece in special.ids:
                ids.append(special.ids[piece])
            elif piece:
                text = piece.translate(table)
                least = len(ids) + len(text.encode(errors="replace")) // longest
                if most is not None and least > most:
                    raise LongConversationError(least)
                ids += tokenizer.encode(text).tolist()
        return ids

    def _facts_of(self, tokenizer: Tokenizer) -> tuple[SpecialTokens, int]:
        """A tokenizer's special tokens, and the bytes of its longest token."""
        if self._facts is None or self._facts[0] is not tokenizer:
            self._facts = tokenizer, SpecialTokens(tokenizer.special), max(map(len, tokenizer.pieces))
        return self._facts[1:]

    def _known(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        if message.get("role") == "developer" and not self._knows_developers:
            return {**message, "role": "system"}
        return message


class SpecialTokens:
    """The spelling of special tokens, which only a template may use.

    A token that the template itself writes begins and ends with characters of the template's. So in what people wrote
    another character stands for each that a special token begins or ends with, one for one: whatever a template cuts
    off, turns around or puts beside it, none of it is a special token.
    """

    def __init__(self, ids: Mapping[str, int]) -> None:
        self.ids = ids
        self._edges = {edge for name in ids if name for edge in (name[0], name[-1])}
        self._characters = sorted(map(ord, {*"".join(ids)}))
        self._all, self._longest = "\0".join(ids), max(map(len, ids), default=0)
        names = sorted(filter(None, ids), key=len, reverse=True)
        self._pattern = re.compile(f"({'|'.join(map(re.escape, names))})") if names else None

    def split(self, text: str) -> list[str]:
        """A text cut before and after each special token, the longest first."""
        return self._pattern.split(text) if self._pattern else [text]

    def mask(self, messages: Sequence[Mapping[str, Any]], source: str) -> tuple[list[dict[str, Any]], dict[int, str]]:
        """Messages with stand-ins in all their texts but the names of roles, and a table that puts it right again."""
        taken = {*source, *(character for text in _texts(messages) for character in set(text))}
        free = (code for code in STAND_INS if chr(code) not in taken)
        table = dict(zip(self._characters, free, strict=False))
        edges = {ord(edge): table[ord(edge)] for edge in self._edges}

        def masked(value: Any) -> Any:
            match value:
                case str():
                    # A piece of a token's inside could be completed by a template on both sides.
                    inside = len(core := value.strip()) < self._longest and core in self._all
                    return value.translate(table if inside else edges)
                case Mapping():
                    return {named(name): kept(name, one) for name, one in value.items()}
                case list() | tuple():
                    return [masked(one) for one in value]
            return value

        def named(name: str) -> str:
            return name if name.isidentifier() else name.translate(edges)

        def kept(name: str, value: Any) -> Any:
            return value if value in WORDS.get(name, ()) else masked(value)

        made = [masked(message) for message in messages]
        return made, {stand_in: chr(character) for character, stand_in in table.items()}


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for name, one in value.items():
                yield from (name, *_texts(one))
        case list() | tuple():
            for one in value:
                yield from _texts(one)
