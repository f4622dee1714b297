"""What clients of OpenAI's API send: the fields that are understood, and their ranges.

After https://platform.openai.com/docs/api-reference, with top_k, min_p, repetition_penalty, skip_special_tokens and
answer_ids besides. What vLLM and llama.cpp's server take is taken, too: null for any field that may be left out, top_k
and max_tokens of -1 for as many as there are, and true or false for a completion's logprobs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MOST_CHOICES = 16
MOST_PROMPTS = 64
MOST_STOPS = 4
MOST_LIKELIEST = 20

Text = Annotated[str, Field(max_length=1_000_000)]
Stop = Annotated[str, Field(max_length=200)]
Id = Annotated[int, Field(ge=0, strict=True)]
# Of a list with many mistakes the first is enough.
Ids = Annotated[list[Id], Field(fail_fast=True, min_length=1, max_length=1_000_000)]
Texts = Annotated[list[Text], Field(fail_fast=True, min_length=1, max_length=MOST_PROMPTS)]
ManyIds = Annotated[list[Ids], Field(fail_fast=True, min_length=1, max_length=MOST_PROMPTS)]
Bias = Annotated[float, Field(ge=-100, le=100)]


class Body(BaseModel):
    """What clients send. Unknown fields are left alone, as clients send many; null is as good as left out."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, given: Any) -> Any:
        return {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given


class StreamOptions(Body):
    """How a stream ends."""

    include_usage: bool = False


def _count(given: Any) -> Any:
    """A completion's number of likeliest tokens, where a client says whether it wants log-probabilities."""
    return {False: None, True: 1}[given] if isinstance(given, bool) else given


class RequestBody(Body):
    """What completions and chats have in common."""

    model: str = ""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Annotated[dict[Annotated[str, Field(pattern=r"^\d{1,9}$")], Bias], Field(max_length=300)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=-1)] | None = None
    skip_special_tokens: bool = True

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())


class CompletionBody(RequestBody):
    """The body of POST /v1/completions."""

    prompt: Text | Ids | Texts | ManyIds = ""
    logprobs: Annotated[Annotated[int, Field(ge=0, le=MOST_LIKELIEST)] | None, BeforeValidator(_count)] = None
    echo: bool | None = None
    best_of: int | None = None
    suffix: str | None = None

    @model_validator(mode="after")
    def _check(self) -> CompletionBody:
        if self.suffix:
            raise ValueError("suffix is not supported: a GPT writes on, not in between")
        if self.best_of not in (None, self.n or 1):
            raise ValueError("best_of is not supported other than equal to n")
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens must be at least 1, unless the prompt is echoed")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """One or several prompts, each as text or ids."""
        given = self.prompt
        if isinstance(given, str) or isinstance(given[0], int):
            return [given]
        return list(given)


class Piece(Body):
    """A part of a message's content."""

    type: Literal["text"]
    text: Text


class Message(Body):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[Piece], Field(max_length=100)] | None = None
    name: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(piece.text for piece in self.content)
        return self.content or ""


class ChatBody(RequestBody):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(fail_fast=True, min_length=1, max_length=1000)]
    max_completion_tokens: Annotated[int, Field(ge=-1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LIKELIEST)] | None = None
    # What the answer begins with.
    answer_ids: Annotated[list[Id], Field(fail_fast=True, max_length=1_000_000)] | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    response_format: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _check(self) -> ChatBody:
        if self.tools or self.functions:
            raise ValueError("tools are not supported")
        if self.response_format and self.response_format.get("type") != "text":
            raise ValueError("response_format can only be text")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        if 0 in (self.max_tokens, self.max_completion_tokens):
            raise ValueError("max_tokens must be at least 1, or -1 for as many as there is room for")
        return self
