"""A conversation as tokens: the template that a model was tuned with, in which nobody can speak for another."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from quoth.system.errors import InputError
from quoth.text.answers import Written, beginnings, learned, unmarked
from quoth.text.sandbox import Asked, Sandbox, TemplateError
from quoth.text.tokenizer import Tokenizer

__all__ = ["LongConversationError", "Template", "TemplateError"]

# Templates compare these with words of their own; no other text of a message is spared.
WORDS = {"role": ("system", "developer", "user", "assistant", "tool"), "type": ("text",)}
# Code points of private use, the last ones of all: one that a conversation does not hold stands for a character in it.
STAND_INS = range(0x10FFFD, 0x100000, -1)
GENERATION = re.compile(r"{%[-+]?\s*generation\b")


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
        self._marks_answers = GENERATION.search(source) is not None
        self._facts: tuple[Tokenizer, SpecialTokens, int] | None = None

    def text(self, messages: Sequence[Mapping[str, Any]], *, answer: bool = True) -> str:
        """The conversation as the model was taught to read it; with `answer`, up to where its own turn begins.

        Raises:
            TemplateError: the template is broken, refuses, or takes too much time, memory or output.
        """
        return self._sandbox.render([self._known(message) for message in messages], answer=answer)

    def ids(self, messages: Sequence[Mapping[str, Any]], tokenizer: Tokenizer, *, most: int | None = None) -> list[int]:
        """The ids of the conversation up to where the model's own turn begins, special tokens among them.

        No token reaches across the beginning of an earlier answer, so the ids are those that were there when the model
        began that answer.

        Raises:
            TemplateError: the template is broken, refuses, or takes too much time, memory or output.
            InputError: a character that the tokenizer does not know.
            LongConversationError: there are more than `most`; a long text is not cut into tokens to find out.
        """
        special, longest = self._facts_of(tokenizer)
        masked = special.mask(messages, self.source)
        if most is not None:
            _check_length(special, self.text(masked.messages), longest, most)
        written, _ = self._written(masked, answer=True)
        return [i for part in _cut(written.text, written.cuts) for i in special.encode(part, masked.table, tokenizer)]

    def ids_and_weights(
        self, messages: Sequence[Mapping[str, Any]], tokenizer: Tokenizer, *, since: int = 0
    ) -> tuple[list[int], list[int]]:
        """The ids of a whole conversation, and for each whether it is learned: 1, or 0.

        Learned are the assistant's answers, each with the token that ends it, and nothing else. Where the template has
        `{% generation %}`, what stands there counts; else, what follows on the prompt for the answer. The ids before an
        answer are exactly those that the model reads when it is asked for it: `ids(messages[:i], tokenizer)` is a
        prefix of the ids. An answer is not learned if the template writes it otherwise because more messages follow,
        nor if it is one of the first `since` messages, such as a prompt whose last answer alone is compared.

        >>> from quoth.text.special import for_chat
        >>> from quoth.text.tokenizer import Characters
        >>> tokenizer = for_chat(Characters("abc"))   # doctest: +SKIP
        >>> Template(tokenizer.template).ids_and_weights(   # doctest: +SKIP
        ...     [{"role": "user", "content": "a"}, {"role": "assistant", "content": "bc"}], tokenizer)
        ([4, 0, 6, 5, 1, 2, 6], [0, 0, 0, 0, 1, 1, 1])

        Raises:
            TemplateError: the template is broken, refuses, or takes too much time, memory or output.
            InputError: the tokenizer does not know a character or has no end token; no message is the assistant's; or
                the template writes no answer that could be learned.
        """
        special, _ = self._facts_of(tokenizer)
        ends = frozenset(name for name, i in special.ids.items() if i in tokenizer.ends)
        if not ends:
            raise InputError("The tokenizer has no special token that ends an answer, so answers would never end.")
        if not any(message.get("role") == "assistant" for message in messages[since:]):
            raise InputError("The conversation has no message of the assistant, so there is nothing to learn from.")
        masked = special.mask(messages, self.source)
        written, last = self._written(masked, answer=False)
        last = {i: text for i, text in last.items() if i >= since}
        spans = learned(written, last, lambda text, place: special.end_of(text, place, ends))
        ids: list[int] = []
        weights: list[int] = []
        place = 0
        for part in _cut(written.text, written.cuts.union(*spans)):
            these = special.encode(part, masked.table, tokenizer)
            ids += these
            weights += [int(any(begin <= place < end for begin, end in spans))] * len(these)
            place += len(part)
        if all(weights):
            raise InputError("The chat template writes nothing but the answer, so there is no prompt to answer.")
        return ids, weights

    def _written(self, masked: Masked, *, answer: bool) -> tuple[Written, dict[int, str]]:
        """The conversation, and, unless it ends in a prompt, the conversation up to each answer and with it."""
        messages = [self._known(message) for message in masked.messages]
        answers = [i for i, message in enumerate(messages) if message.get("role") == "assistant"]
        whole = Asked(len(messages), answer)
        prompts, lasts = [Asked(i, True) for i in answers], [Asked(i + 1, False) for i in answers if not answer]
        marked = [whole._replace(marks=masked.marks)] if self._marks_answers else []
        asked = list(dict.fromkeys([whole, *marked, *prompts, *lasts]))
        texts = dict(zip(asked, self._sandbox.render_all(messages, asked), strict=True))
        if isinstance(text := texts[whole], TemplateError):
            raise text
        blocks: list[tuple[int, int]] = []
        for one in marked:
            without, found = unmarked(str(texts[one]), masked.marks)
            blocks = found if without == text else []  # A mark may keep a filter of the template from its work.

        def written(asked: list[Asked]) -> dict[int, str]:
            # A template may refuse some beginnings of a conversation.
            return {i: made for i, one in zip(answers, asked, strict=False) if isinstance(made := texts[one], str)}

        return Written(text, beginnings(text, written(prompts)), blocks), written(lasts)

    def _facts_of(self, tokenizer: Tokenizer) -> tuple[SpecialTokens, int]:
        """A tokenizer's special tokens, and the bytes of its longest token."""
        if self._facts is None or self._facts[0] is not tokenizer:
            self._facts = tokenizer, SpecialTokens(tokenizer.special), max(map(len, tokenizer.pieces))
        return self._facts[1:]

    def _known(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        if message.get("role") == "developer" and not self._knows_developers:
            return {**message, "role": "system"}
        return message


def _cut(text: str, places: Collection[int]) -> list[str]:
    """A text in parts that end at these places."""
    edges = sorted({0, len(text), *places})
    return [text[begin:end] for begin, end in pairwise(edges)]


def _check_length(special: SpecialTokens, text: str, longest: int, most: int) -> None:
    """Refuse a text that surely has more than `most` tokens, of which the longest has so many bytes.

    Raises:
        LongConversationError: it has.
    """
    least = 0
    for piece in special.split(text):
        least += 1 if piece in special.ids else len(piece.encode(errors="replace")) // longest
        if least > most:
            raise LongConversationError(least)


@dataclass(frozen=True)
class Masked:
    """Messages in which other characters stand for those that could make a special token.

    Attributes:
        messages: the messages, with all their texts masked but for the names of roles.
        table: the characters that are meant, by the code points of those that stand for them.
        marks: two characters that neither the messages nor the template hold.
    """

    messages: Sequence[Mapping[str, Any]]
    table: Mapping[int, str]
    marks: tuple[str, str]


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

    def end_of(self, text: str, place: int, ends: Collection[str]) -> int | None:
        """Where the first of these special tokens at or after a place of a text ends."""
        found = self._pattern.finditer(text, place) if self._pattern else iter(())
        return next((one.end() for one in found if one[0] in ends), None)

    def encode(self, text: str, table: Mapping[int, str], tokenizer: Tokenizer) -> list[int]:
        """The ids of a text with stand-ins, which the table puts right in what is no special token."""
        ids: list[int] = []
        for piece in self.split(text):
            if piece in self.ids:
                ids.append(self.ids[piece])
            elif piece:
                ids += tokenizer.encode(piece.translate(table)).tolist()
        return ids

    def mask(self, messages: Sequence[Mapping[str, Any]], source: str) -> Masked:
        """Messages with stand-ins in all their texts but the names of roles."""
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
        meant = {stand_in: chr(character) for character, stand_in in table.items()}
        return Masked(made, meant, (chr(next(free)), chr(next(free))))


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
