"""What models are tuned on: conversations, pairs of answers of which one is preferred, and answers that were rated."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

# A message has a role, which is system, user or assistant, and a content.
Message = dict[str, str]
Messages = tuple[Message, ...]


@dataclass(frozen=True)
class Conversation:
    """Messages of a user and an assistant in turn, perhaps after one of the system; at least one is the assistant's.

    Attributes:
        messages: the messages.
        where: the file and the line or row that they come from, such as "talk.jsonl, line 3".
    """

    messages: Messages
    where: str

    @property
    def prompt(self) -> Messages:
        """The messages before the first answer."""
        roles = [message["role"] for message in self.messages]
        return self.messages[: roles.index("assistant")]


@dataclass(frozen=True)
class Prompt:
    """What a model is asked for an answer to.

    Attributes:
        prompt: the messages, of which the last one is the user's.
        where: the file and the line or row that they come from.
    """

    prompt: Messages
    where: str


@dataclass(frozen=True)
class Preference:
    """Two answers to a prompt, of which somebody preferred one.

    Attributes:
        prompt: the messages before the answers.
        chosen: the preferred answer: one message of the assistant, or several messages that begin and end with one.
        rejected: the other answer.
        where: the file and the line or row that they come from.
    """

    prompt: Messages
    chosen: Messages
    rejected: Messages
    where: str


@dataclass(frozen=True)
class Rated:
    """An answer to a prompt, and whether somebody found it good.

    Attributes:
        prompt: the messages before the answer.
        completion: the answer: one message of the assistant, or several messages that begin and end with one.
        label: whether the answer is good.
        where: the file and the line or row that they come from.
    """

    prompt: Messages
    completion: Messages
    label: bool
    where: str


class Prompted(Protocol):
    """What has a prompt."""

    @property
    def prompt(self) -> Messages: ...


Item = TypeVar("Item", bound=Prompted)


def split(items: Sequence[Item], *, held_out: float = 0.1, seed: int = 0) -> tuple[list[Item], list[Item]]:
    """The items for training and those held out, both in their order; a prompt never stands on both sides.

    A hash of the prompt and the seed decides, so an item stays on its side when others are added. Where chance would
    leave one side empty although there are two prompts or more, one prompt goes there.

    >>> items = [Conversation(({"role": "user", "content": str(i)}, {"role": "assistant", "content": "yes"}), "")
    ...          for i in range(1000)]
    >>> [len(part) for part in split(items)]
    [890, 110]
    """
    places = [_place(item.prompt, seed) for item in items]
    apart = {place for place in places if place < held_out}
    if 0 < held_out < 1 and len(known := set(places)) > 1:
        apart = (apart or {min(known)}) - ({max(known)} if apart == known else set())
    training = [item for item, place in zip(items, places, strict=True) if place not in apart]
    return training, [item for item, place in zip(items, places, strict=True) if place in apart]


def _place(prompt: Messages, seed: int) -> float:
    """A number from 0 to 1 that is as good as random."""
    text = json.dumps([seed, *([message["role"], message["content"]] for message in prompt)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
