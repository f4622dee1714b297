"""Answers that a model writes to prompts, by the engine that every command uses."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from quoth.generate.engine import Engine
from quoth.generate.request import Generation, Request
from quoth.generate.sampling import Sampling
from quoth.model.gpt import GPT
from quoth.text.batches import Batch
from quoth.text.packing import padded
from quoth.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """What is asked: its ids, up to where the answer begins, and its last message as a person would read it."""

    ids: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class Answer:
    """An answer's ids, with the end token if it has one, and its text without it."""

    ids: Sequence[int]
    text: str
    ended: bool


def answering_engine(
    model: GPT,
    tokenizer: Tokenizer,
    longest: int,
    *,
    slots: int,
    threads: int = 0,
    compiled: bool | None = None,
) -> Engine:
    """An engine whose slots have room for `longest` tokens, a prompt's and its answer's together, and no more.

    A large model's whole context would take gigabytes, and PyTorch would attend to all of it. See `make_decoder` for
    `compiled`.
    """
    context = min(longest, model.config.context)
    return Engine(model, tokenizer, slots=slots, threads=threads, compiled=compiled, context=context)


def write_answers(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    *,
    tokens: int,
    ends: Collection[int],
    temperature: float = 1.0,
    seed: int = 0,
    first: int = 0,
) -> list[Answer]:
    """One answer to each prompt, of at most `tokens` tokens, the end token included.

    Answer number n depends on its prompt, the weights, `seed` and n alone, where the first number is `first`: so
    several processes can write the answers of one, each its share.

    >>> write_answers(engine, [[1, 2], [1, 2]], tokens=20, ends=tokenizer.ends)    # doctest: +SKIP
    [Answer(ids=[5, 9, 3], text='my love', ended=True), ...]
    """
    how = Sampling(temperature=temperature)
    stop = frozenset(ends)
    requests = [
        Request(prompt=prompt, tokens=tokens, sampling=how, seed=seed, choice=number, stop_ids=stop)
        for number, prompt in enumerate(prompts, first)
    ]
    return [_answer(made) for made in engine.generate(requests)]


def answered(prompts: Sequence[Prompt], answers: Sequence[Answer]) -> Batch:
    """A row for each prompt and its answer, in which the answer's tokens count; see `padded`."""
    return padded([(prompt.ids, answer.ids) for prompt, answer in zip(prompts, answers, strict=True)])


def _answer(made: Generation) -> Answer:
    ended = made.end_token is not None
    return Answer([token.id for token in made.drawn], made.text, ended)


def share_distinct(answers: Sequence[Answer]) -> float:
    """The share of answers that differ from all before them; 1 where no two are the same."""
    return len({tuple(one.ids) for one in answers}) / max(1, len(answers))


def share_ended(answers: Sequence[Answer]) -> float:
    """The share of answers that have an end token."""
    return sum(one.ended for one in answers) / max(1, len(answers))


def in_turn(size: int, parts: int) -> Iterator[slice]:
    """Slices that cut `size` items into `parts` of equal size, up to one.

    >>> list(in_turn(5, 2))
    [slice(0, 2, None), slice(2, 5, None)]
    """
    edges = [size * n // parts for n in range(parts + 1)]
    return (slice(begin, end) for begin, end in pairwise(edges))
