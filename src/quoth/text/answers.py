"""Where a conversation that a template has written holds the answers of the assistant."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from quoth.system.errors import InputError

Span = tuple[int, int]
Texts = Mapping[int, str]


@dataclass(frozen=True)
class Written:
    """A conversation as text; all places are counted in its characters.

    Attributes:
        text: what the template wrote.
        begins: the number of each answer's message, and the place where the answer begins. An answer is left out
            where the text before it is not the prompt that asks for it.
        blocks: where the template has marked, by `{% generation %}`, what the model writes.
    """

    text: str
    begins: Sequence[tuple[int, int]]
    blocks: Sequence[Span]

    @property
    def cuts(self) -> set[int]:
        """Places that no token may reach across: a model that goes on from a prompt writes new tokens there."""
        return {begin for _, begin in self.begins} | {place for block in self.blocks for place in block}


def unmarked(marked: str, marks: tuple[str, str]) -> tuple[str, list[Span]]:
    """A text without marks, and what stood between a begin and its end, an inner pair within an outer one left out.

    >>> unmarked("ask(answer)ask", ("(", ")"))
    ('askanswerask', [(3, 9)])
    """
    text, opened, spans = "", [], []
    for part in re.split(f"({'|'.join(map(re.escape, marks))})", marked):
        if part == marks[0]:
            opened.append(len(text))
        elif part == marks[1] and opened:
            begin = opened.pop()
            spans += [(begin, len(text))] if not opened else []
        elif part != marks[1]:
            text += part
    return text, spans


def beginnings(text: str, prompts: Texts) -> list[tuple[int, int]]:
    """The number of each answer whose prompt the text begins with, and the place where the prompt ends."""
    return [(i, len(prompt)) for i, prompt in prompts.items() if text.startswith(prompt)]


def learned(written: Written, last: Texts, end_of: Callable[[str, int], int | None]) -> list[Span]:
    """What is learned of a conversation: the answers, each up to and with its end token.

    Where the template has blocks, only those of an answer count, and its end token. An answer is left out where the
    conversation holds it otherwise than it would be written as the last message, as templates do that cut the thoughts
    out of earlier answers: the model would never be asked to write it so.

    Args:
        written: the conversation.
        last: the conversation up to an answer and with it, as text, by the number of the answer's message.
        end_of: tells where the first end token at or after a place of a text ends.

    Raises:
        InputError: no answer ends, or none can be learned.
    """
    spans: list[Span] = []
    endless = False
    for i, begin in written.begins:
        if (own := last.get(i)) is None:
            continue
        end = end_of(own, begin)
        endless |= end is None
        if end is not None and own[:end] == written.text[:end]:
            spans += _counted(written.blocks, begin, end)
    if not spans and endless:
        raise InputError(
            "The chat template writes no end token of the tokenizer behind an answer, so the model would not learn "
            "where answers end."
        )
    if not spans:
        raise InputError(
            "The chat template writes no answer as it asks for one (with add_generation_prompt), so the model cannot "
            "learn any."
        )
    return spans


def _counted(blocks: Sequence[Span], begin: int, end: int) -> list[Span]:
    """An answer's spans: the blocks within it, the last one drawn out to its end; all of it where there are none."""
    if not blocks:
        return [(begin, end)]
    inside = [(max(first, begin), min(last, end)) for first, last in blocks if first < end and last > begin]
    return [*inside[:-1], (inside[-1][0], end)] if inside else []
