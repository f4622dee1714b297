"""What stages of tuning read: conversations, pairs of answers, rated answers, prompts; as ids, a part held out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar

from quoth.recipes.base import Base
from quoth.system.errors import InputError
from quoth.text.chat import TemplateError
from quoth.text.packing import Example
from quoth.tune.answers import Prompt
from quoth.tune.conversation import Conversation, Messages, Preference, Prompted, Rated, split
from quoth.tune.pairs import Pair
from quoth.tune.ratings import Rating
from quoth.tune.read import read_conversations, read_preferences, read_prompts, read_rated

T = TypeVar("T")
S = TypeVar("S", bound=Prompted)


@dataclass(frozen=True)
class Split(Generic[T]):
    """Data in two parts. All of it is held out where `held_out` was 1, else neither part is empty.

    Attributes:
        name: what a person calls the data.
        training: what is learned from.
        held_out: what the model is judged by.
        prompts: the prompts of what is held out, each once.
        facts: what identifies the data.
        remarks: sentences on what was left out.
    """

    name: str
    training: Sequence[T]
    held_out: Sequence[T]
    prompts: Sequence[Prompt] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    remarks: Sequence[str] = ()


def conversations(base: Base, known: Mapping[str, Any]) -> Split[Example]:
    """Conversations, of which the assistant's turns are learned.

    Raises:
        InputError: the data cannot be read, or is not made of conversations.
    """
    context = base.model.config.context

    def example(one: Conversation) -> Example | None:
        with naming(one.where):
            made = Example(*base.template.ids_and_weights(one.messages, base.tokenizer)).cut(context)
        return made if made.targets else None

    return _split(base, known, read_conversations(known["data"], known["me"]), example, "conversations")


def pairs(base: Base, known: Mapping[str, Any]) -> Split[Pair]:
    """Pairs of answers to the same prompt.

    Raises:
        InputError: the data cannot be read, or is not made of pairs.
    """
    context = base.model.config.context

    def pair(one: Preference) -> Pair | None:
        with naming(one.where):
            prompt = base.prompt_ids(one.prompt)
        chosen, rejected = (_answer(base, one, answer, len(prompt)) for answer in (one.chosen, one.rejected))
        made = Pair(prompt, chosen, rejected)
        return made if made.longest <= context else None

    return _split(base, known, read_preferences(known["data"]), pair, "pairs of answers")


def ratings(base: Base, known: Mapping[str, Any]) -> Split[Rating]:
    """Answers that somebody found good or bad; a pair is one of each.

    Raises:
        InputError: the data cannot be read, or is not made of rated answers.
    """
    context = base.model.config.context

    def rating(one: Rated) -> Rating | None:
        with naming(one.where):
            prompt = base.prompt_ids(one.prompt)
        made = Rating(prompt, _answer(base, one, one.completion, len(prompt)), one.label)
        return made if made.longest <= context else None

    return _split(base, known, read_rated(known["data"]), rating, "rated answers")


def prompts(base: Base, known: Mapping[str, Any]) -> Split[Prompt]:
    """Prompts, to which the model writes answers; answers in the data are not read.

    Raises:
        InputError: the data cannot be read, or has no prompts.
    """
    context = base.model.config.context

    def prompt(one: Prompted) -> Prompt | None:
        made = base.prompt(one.prompt)
        return made if len(made.ids) < context else None

    return _split(base, known, read_prompts(known["data"]), prompt, "prompts")


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Say where in the data a message stands that cannot be read.

    Raises:
        InputError: the block raised it, or the chat template refused the message.
    """
    try:
        yield
    except (InputError, TemplateError) as error:
        raise InputError(f"{where}: {error}") from error


def _answer(base: Base, one: Preference | Rated, answer: Messages, begins: int) -> list[int]:
    """An answer's ids after its prompt, up to and with its end token."""
    messages = [*one.prompt, *answer]
    with naming(one.where):
        ids, weights = base.template.ids_and_weights(messages, base.tokenizer, since=len(one.prompt))
    return ids[begins : max(place for place, weight in enumerate(weights) if weight) + 1]


def _split(
    base: Base, known: Mapping[str, Any], found: Sequence[S], make: Callable[[S], T | None], what: str
) -> Split[T]:
    parts = split(found, held_out=known["held_out"], seed=known["seed"])
    training, held = ([one for item in part if (one := make(item)) is not None] for part in parts)
    lost = len(found) - len(training) - len(held)
    if not held or not (training or known["held_out"] == 1):
        context = base.model.config.context
        raise InputError(
            f"{known['data']} has {len(training):,} {what} to learn from and {len(held):,} to hold out, without those "
            f"that are too long for a context of {context} tokens; give more, or another --held-out."
        )
    asked = {prompt.ids: prompt for prompt in (base.prompt(item.prompt) for item in parts[1])}
    content = json.dumps([asdict(item) for item in found])  # type: ignore[call-overload]
    facts = {"data_sha256": hashlib.sha256(content.encode()).hexdigest()}
    remark = f"{lost:,} of {len(found):,} {what} are left out, since they do not fit into the context."
    return Split(known["data"], training, held, list(asked.values()), facts, [remark] if lost else [])
