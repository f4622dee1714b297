"""Turns the body of a client's request into requests to an engine."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from quoth.generate.engine import Engine
from quoth.generate.request import Request
from quoth.generate.sampling import Sampling
from quoth.serve.protocol import ChatBody, CompletionBody, RequestBody
from quoth.system.errors import InputError
from quoth.text.chat import LongConversationError, Template, TemplateError
from quoth.web.connection import ConnectionLimits
from quoth.web.errors import APIError

# OpenAI's own, where a completion says nothing.
COMPLETION_TOKENS = 16


@dataclass(frozen=True, eq=False)
class ServedModel:
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

    @cached_property
    def longest_token(self) -> int:
        """How many bytes the longest token has."""
        return max(map(len, self.engine.tokenizer.pieces))

    @cached_property
    def special(self) -> frozenset[int]:
        """The ids of special tokens, which stand for no text."""
        return frozenset(self.engine.tokenizer.special.values())

    @property
    def ends(self) -> frozenset[int]:
        """The ids of the tokens that an answer ends at."""
        return frozenset(self.engine.tokenizer.ends)


@dataclass(frozen=True)
class Limits(ConnectionLimits):
    """What one client may ask for at most.

    Attributes:
        tokens: new ones in an answer.
        seconds: until an answer has ended; what there is by then is given.
        waiting: requests that wait for a slot.
        keep_alive_seconds: after which a stream in which nothing comes says that it is still there.
    """

    tokens: int = 4096
    seconds: float = 600.0
    waiting: int = 64
    keep_alive_seconds: float = 10.0


def completion_requests(body: CompletionBody, model: ServedModel, limits: Limits) -> list[Request]:
    """Make a request to the engine for each prompt and choice.

    Raises:
        APIError: the body asks for something that the model or the limits do not allow.
    """
    made: list[Request] = []
    for number, prompt in enumerate(body.prompts):
        ids = _ids(prompt, model, f"prompt[{number}]" if len(body.prompts) > 1 else "prompt")
        tokens = COMPLETION_TOKENS if body.max_tokens is None else body.max_tokens
        tokens = _room(model, ids, limits) if tokens < 0 else tokens
        made += _requests(body, model, limits, ids, tokens, body.logprobs, echo=bool(body.echo))
    return made


def chat_requests(body: ChatBody, model: ServedModel, limits: Limits) -> list[Request]:
    """Make a request to the engine for each choice.

    Raises:
        APIError: the body asks for something that the model or the limits do not allow.
    """
    if model.template:
        messages = [{"role": message.role, "content": message.text} for message in body.messages]
        try:
            ids = model.template.ids(messages, model.engine.tokenizer, most=model.engine.context)
        except LongConversationError as error:
            raise _too_long(error.tokens, model, "messages") from error
        except (TemplateError, InputError) as error:
            raise APIError(400, str(error), param="messages") from error
    else:
        ids = _ids("\n\n".join(message.text for message in body.messages), model, "messages")
    ids = _fitting(ids + (_ids(body.answer_ids, model, "answer_ids") if body.answer_ids else []), model, "messages")
    given = body.max_completion_tokens or body.max_tokens or -1
    tokens = _room(model, ids, limits) if given < 0 else given
    top = (body.top_logprobs or 0) if body.logprobs else None
    return _requests(body, model, limits, ids, tokens, top)


def _room(model: ServedModel, ids: Sequence[int], limits: Limits) -> int:
    """How many tokens may follow, where a client does not say."""
    return min(max(1, model.engine.context - len(ids)), limits.tokens)


def _requests(
    body: RequestBody,
    model: ServedModel,
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
    seed = secrets.randbits(62) if body.seed is None else body.seed
    sampling = _sampling(body, model)
    return [
        Request(
            prompt=ids,
            tokens=tokens,
            sampling=sampling,
            seed=seed,
            choice=choice,
            stop=body.stops,
            stop_ids=model.ends,
            special=not body.skip_special_tokens,
            logprobs=logprobs,
            echo=echo and (logprobs is not None or tokens == 0),
        )
        for choice in range(body.n or 1)
    ]


def _sampling(body: RequestBody, model: ServedModel) -> Sampling:
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
    given = {name: getattr(body, name) for name in names if getattr(body, name) is not None}
    if given.get("top_p") == 0:  # Nothing but the likeliest token, as temperature 0 is.
        del given["top_p"]
        given["temperature"] = 0.0
    given["top_k"] = max(0, given.get("top_k", 0))
    bias = {int(token): value for token, value in (body.logit_bias or {}).items()}
    if wrong := [token for token in bias if token >= model.engine.tokenizer.vocabulary]:
        raise APIError(400, f"logit_bias: there is no token {wrong[0]}.", param="logit_bias")
    return Sampling(**{"temperature": 1.0, **given}, logit_bias=bias)


def _ids(prompt: str | Sequence[int], model: ServedModel, param: str) -> list[int]:
    """Return a prompt's ids; they fit into the context."""
    if isinstance(prompt, str):
        # Before a long text is cut into tokens: there are at least so many.
        least = len(prompt.encode(errors="replace")) // model.longest_token
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


def _fitting(ids: list[int], model: ServedModel, param: str) -> list[int]:
    if len(ids) <= model.engine.context:
        return ids
    raise _too_long(len(ids), model, param)


def _too_long(tokens: int, model: ServedModel, param: str) -> APIError:
    said = f"This model's context is {model.engine.context:,} tokens, but {param} has {tokens:,} or more."
    return APIError(400, said, code="context_length_exceeded", param=param)
