"""What an engine is asked for, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from quoth.generate.detokenize import Detokenizer
from quoth.generate.sampling import Sampling, Uniforms
from quoth.system.errors import InputError
from quoth.text.tokenizer import Tokenizer

Finish = Literal["", "stop", "length", "cancelled", "failed"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One continuation of one prompt.

    Attributes:
        prompt: its ids, at least one.
        tokens: how many new ones at most.
        sampling: how they are drawn.
        seed: the same seed, the same answer.
        choice: which of several answers to one prompt this is; each draws its own.
        stop: strings that the answer ends before.
        stop_ids: tokens that it ends at, such as a tokenizer's end of text; see `Generation.end_token`.
        logprobs: how many of the likeliest tokens to tell with each; None for no log-probabilities.
        echo: tell the log-probabilities of the prompt, too.
        lookup: guess up to so many tokens, at most eight, from what was written before, and check them in one step
            (prompt look-up decoding, Saxena 2023); the answer is the same.
        special: write the names of special tokens into the text, too.

    Raises:
        InputError: there is nothing to go on from, or nothing to write.
    """

    prompt: Sequence[int]
    tokens: int = 500
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    choice: int = 0
    stop: Sequence[str] = ()
    stop_ids: frozenset[int] = frozenset()
    logprobs: int | None = None
    echo: bool = False
    lookup: int = 0
    special: bool = False

    def __post_init__(self) -> None:
        if not self.prompt:
            raise InputError("A prompt needs at least one token.")
        if self.tokens < 1 and not self.echo:
            raise InputError(f"tokens must be at least 1, not {self.tokens}.")


@dataclass(frozen=True)
class Chance:
    """A token's log-probability under the model itself, and the likeliest tokens with theirs, best first."""

    logprob: float
    top: list[tuple[int, float]]


@dataclass(frozen=True)
class Token:
    """One new token, what can be read since it came, and its chance where that was asked for."""

    id: int
    text: str
    chance: Chance | None = None


class Generation:
    """A request on its way.

    Attributes:
        answer: the ids so far, and `tokens` the same with their texts and chances; neither has the end token.
        text: the answer so far. What may become a stop string is held back until it is known, and special tokens leave
            nothing unless the request asks for them.
        finish: "" while it goes on; then stop, length, cancelled, or failed where the engine did.
        end_token: the one of the request's `stop_ids` that ended the answer, with its chance; None as long as none
            has. Where `finish` is stop and this is None, a stop string was met, whose tokens are in `answer`.
        prompt_chances: of the prompt's tokens from the second on, where that was asked for.
        cancelled: set it, and the engine drops the request before its next step.
    """

    def __init__(self, request: Request, tokenizer: Tokenizer, context: int) -> None:
        self.request = request
        self.answer: list[int] = []
        self.tokens: list[Token] = []
        self.text = ""
        self.finish: Finish = ""
        self.end_token: Token | None = None
        self.prompt_chances: list[Chance] = []
        self.cancelled = False
        # The tokens in the window, and how many of them the slot has read.
        self.slot = -1
        self.window, self.read = list(request.prompt[-context:]), 0
        self.uniforms = Uniforms(request.seed, request.choice)
        self._detokenizer = Detokenizer(tokenizer, request.stop, special=request.special)

    @property
    def drawn(self) -> list[Token]:
        """All tokens that the model drew: those of the answer, and the end token where one ended it."""
        return [*self.tokens, self.end_token] if self.end_token else list(self.tokens)

    def take(self, id: int, chance: Chance | None) -> Token:  # noqa: A002
        """Add a drawn token, unless it is one that the answer ends at."""
        if ends := id in self.request.stop_ids:
            text = self._detokenizer.end()
        else:
            text = self._detokenizer.add(id)
            self.answer.append(id)
        if ends or self._detokenizer.stopped:
            self.finish = "stop"
        elif len(self.answer) >= self.request.tokens:
            self.finish, text = "length", text + self._detokenizer.end()
        token = Token(id, text, chance)
        self.text += text
        if ends:
            self.end_token = token
        else:
            self.tokens.append(token)
        return token
