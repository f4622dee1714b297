"""Answers to held-out prompts: for a person to read, and what they tell of a tuned model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from quoth.generate.engine import Engine
from quoth.model.gpt import GPT
from quoth.recipes.base import SMALL_MODEL, Base
from quoth.recipes.load_engine import tell_why_not
from quoth.recipes.recipe import Recipe
from quoth.system.device import Hardware
from quoth.tune.answers import Answer, Prompt, answering_engine, share_distinct, share_ended, write_answers

# How many prompts are answered at each evaluation, how many at once, and how many answers are shown.
ANSWERED, SLOTS, SHOWN = 64, 32, 5
# How many prompts a large model answers.
LARGE_ANSWERED = 16


class Answering:
    """Lets a model answer the same prompts again and again, to see what tuning does to its answers.

    `known` are the answers that the model learns from, each with its end token. An `engine` that others use too, and
    that has room for the prompts and answers, takes the place of one more.
    """

    def __init__(
        self,
        recipe: Recipe,
        base: Base,
        prompts: Sequence[Prompt],
        hardware: Hardware,
        known: Iterable[tuple[int, ...]] = (),
        engine: Engine | None = None,
    ) -> None:
        assert recipe.tune
        self.base, self.hardware, self.seed = base, hardware, recipe.run.seed
        # A few prompts are asked several times, so that the share of distinct answers means the same for all data.
        number = ANSWERED if base.model.parameters_count <= SMALL_MODEL else LARGE_ANSWERED
        self.prompts = [prompts[n % len(prompts)] for n in range(number)] if prompts else []
        self.tokens = recipe.tune.answer_tokens
        self.known = set(known)
        self._engine = engine

    def answers(self, model: GPT, say: Callable[[str], None] = lambda said: None) -> list[Answer]:
        """The model's answers to the prompts; the same weights give the same answers."""
        if self._engine is None:
            longest = max((len(prompt.ids) for prompt in self.prompts), default=1) + self.tokens
            # It takes seconds to compile the decoder, once on a machine, which a large model's answers soon repay.
            compiled = True if model.parameters_count > SMALL_MODEL else None
            tokenizer, threads = self.base.tokenizer, self.hardware.threads
            self._engine = answering_engine(model, tokenizer, longest, slots=SLOTS, threads=threads, compiled=compiled)
            tell_why_not(self._engine, say)
        self._engine.reload(model)
        ids, ends = [prompt.ids for prompt in self.prompts], self.base.tokenizer.ends
        return write_answers(self._engine, ids, tokens=self.tokens, ends=ends, seed=self.seed)

    def metrics(self, model: GPT) -> dict[str, float]:
        """The shares of answers that end, that differ from all before them, and that were learned word for word."""
        if not self.prompts:
            return {}
        answers = self.answers(model)
        copied = {"copied": sum(tuple(one.ids) in self.known for one in answers) / len(answers)} if self.known else {}
        return {**self.shares(answers), **copied}

    @staticmethod
    def shares(answers: Sequence[Answer]) -> dict[str, float]:
        """The shares of answers that end, and that differ from all before them."""
        return {"ended": share_ended(answers), "distinct": share_distinct(answers)}

    def sample(self, model: GPT, tokens: int, say: Callable[[str], None]) -> str:
        """The first few prompts and answers."""
        shown = zip(self.prompts, self.answers(model, say)[:SHOWN], strict=False)
        return "\n".join(f"{prompt.text}\n  → {answer.text}" for prompt, answer in shown)
