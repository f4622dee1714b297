"""From what a client asks to what an engine is asked."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from quoth.generate.engine import Engine
from quoth.generate.request import Request
from quoth.generate.sampling import Sampling
from quoth.serve.errors import APIError
from quoth.serve.protocol import Asked, ChatAsked, CompletionAsked
from quoth.system.errors import InputError
from quoth.text.chat import Template, TemplateError

# OpenAI's own, where a completion says nothing.
COMPLETION_TOKENS = 16


@dataclass(frozen=True, eq=False)
class Served:
    """A model that is served.

    Attributes:
        name: what clients call it.
        created: when it was trained, in seconds since 1970.
        template: how it chats; without one it goes on from what the messages say.
        fingerprint: of its weights.
    """

    name: str
    engine: Engine
    created: int
    template: Template | None = None
    fingerprint: str = ""

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that an answer ends at."""
        return frozenset(self.engine.tokenizer.ends)


@dataclass(frozen=True)
class Limits:
    """What one client may ask for at most.

    Attributes:
        tokens: new ones in an answer.
        seconds: until an answer has ended; what there is by then is given.
        waiting: requests that wait for a slot.
        body: bytes of a request.
    """

    tokens: int = 4096
    seconds: float = 600.0
    waiting: int = 64
    body: int = 4 * 2**20


def completion_requests(asked: CompletionAsked, model: Served, limits: Limits) -> list[Request]:
    """A request for each prompt and choice.

    Raises:
        APIError: it cannot be done.
    """
    made: list[Request] = []
    for number, prompt in enumerate(asked.prompts):
        ids = _ids(prompt, model, f"prompt[{number}]" if len(asked.prompts) > 1 else "prompt")
        tokens = COMPLETION_TOKENS if asked.max_tokens is None else asked.max_tokens
        made += _requests(asked, model, limits, ids, tokens, asked.logprobs, echo=bool(asked.echo))
    return made


def chat_requests(asked: ChatAsked, model: Served, limits: Limits) -> list[Request]:
    """A request for each choice.

    Raises:
        APIError: it cannot be done.
    """
    if model.template:
        messages = [{"role": message.role, "content": message.text} for message in asked.messages]
        try:
            ids = model.template.ids(messages, model.engine.tokenizer)
        except (TemplateError, InputError) as error:
            raise APIError(400, str(error), param="messages") from error
    else:
        ids = _ids("\n\n".join(message.text for message in asked.messages), model, "messages")
    ids = _fitting(ids + (_ids(asked.answer_ids, model, "answer_ids") if asked.answer_ids else []), model, "messages")
    given = asked.max_completion_tokens or asked.max_tokens
    tokens = given or max(1, model.engine.context - len(ids))
    top = (asked.top_logprobs or 0) if asked.logprobs else None
    return _requests(asked, model, limits, ids, tokens if given else min(tokens, limits.tokens), top)


def _requests(
    asked: Asked,
    model: Served,
    limits: Limits,
    ids: list[int],
    tokens: int,
    logprobs: int | None,
    *,
    echo: bool = False,
) -> list[Request]:
    if tokens > limits.tokens:
        raise APIError(
            400, f"At most {limits.tokens:,} new tokens can be had at once, not {tokens:,}.", param="max_tokens"
        )
    seed = secrets.randbits(62) if asked.seed is None else asked.seed
    sampling = _sampling(asked, model)
    return [
        Request(
            prompt=ids,
            tokens=tokens,
            sampling=sampling,
            seed=seed,
            choice=choice,
            stop=asked.stops,
            stop_ids=model.ends,
            logprobs=logprobs,
            echo=echo and (logprobs is not None or tokens == 0),
        )
        for choice in range(asked.n or 1)
    ]


def _sampling(asked: Asked, model: Served) -> Sampling:
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
    given = {name: getattr(asked, name) for name in names if getattr(asked, name) is not None}
    bias = {int(token): value for token, value in (asked.logit_bias or {}).items()}
    if wrong := [token for token in bias if token >= model.engine.tokenizer.vocabulary]:
        raise APIError(400, f"logit_bias: there is no token {wrong[0]}.", param="logit_bias")
    return Sampling(**{"temperature": 1.0, **given}, logit_bias=bias)


def _ids(prompt: str | Sequence[int], model: Served, param: str) -> list[int]:
    """A prompt's ids, which fit the context."""
    if isinstance(prompt, str):
        # Before a long text is cut into tokens: there are at least so many.
        least = len(prompt.encode(errors="replace")) // max(map(len, model.engine.tokenizer.pieces))
        if least > model.engine.context:
            raise _too_long(least, model, param)
        try:
            return _fitting(model.engine.prompt_ids(prompt), model, param)
        except InputError as error:
            raise APIError(400, str(error), param=param) from error
    vocabulary = model.engine.tokenizer.vocabulary
    if wrong := [token for token in prompt if token >= vocabulary]:
        said = f"{param}: there is no token {wrong[0]} in a vocabulary of {vocabulary:,}."
        raise APIError(400, said, param=param)
    return _fitting(list(prompt), model, param)


def _fitting(ids: list[int], model: Served, param: str) -> list[int]:
    if len(ids) <= model.engine.context:
        return ids
    raise _too_long(len(ids), model, param)


def _too_long(tokens: int, model: Served, param: str) -> APIError:
    said = f"This model's context is {model.engine.context:,} tokens, but {param} has {tokens:,} or more."
    return APIError(400, said, code="context_length_exceeded", param=param)
