"""Turns what an engine writes into the objects that clients of OpenAI's API read."""

from __future__ import annotations

import json
import time
import uuid
from codecs import getincrementaldecoder
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from quoth.generate.request import Chance, Finish, Generation, Request, Token
from quoth.serve.requests import ServedModel
from quoth.serve.worker import Answer
from quoth.text.tokenizer import decode, spelling


@dataclass
class Reply:
    """Builds the response to one request, at once or in chunks.

    Attributes:
        chat: whether it is a chat's, or a completion's.
        echoed: whether prompts are repeated.
        with_usage: whether a stream's last chunk tells it.
    """

    model: ServedModel
    requests: Sequence[Request]
    prompts: int
    chat: bool
    echoed: bool = False
    with_usage: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))
    _offsets: dict[int, int] = field(default_factory=dict)  # Of the text of each choice, in a stream.

    def response(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """Build the response that holds all choices."""
        choices = [self._choice(index, answer) for index, answer in enumerate(answers)]
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._envelope(kind), "choices": choices, "usage": self.usage(answers)}

    def chunk(
        self, index: int, tokens: Sequence[Token], finish: Finish | None, *, first: bool = False
    ) -> dict[str, Any]:
        """Build the chunk of some tokens of one choice, or of the reason why the choice ended."""
        text = "".join(token.text for token in tokens)
        request = self.requests[index]
        told = None
        if request.logprobs is not None:
            told = [token for token in tokens if token.id not in request.stop_ids]
        choice: dict[str, Any] = {"index": index, "finish_reason": finish and _reason(finish)}
        if self.chat:
            delta = {"role": "assistant", "content": text} if first else {"content": text} if text else {}
            choice |= {"delta": delta, "logprobs": self._chat_logprobs(told, request)}
        else:
            choice |= {"text": text, "logprobs": self._logprobs(told, request, offset=self._offset(index, text))}
        return self._chunk(choice)

    def echo(self, index: int, answer: Answer) -> dict[str, Any]:
        """Build the chunk that repeats a prompt."""
        request = self.requests[index]
        text, logprobs = self._prompt(request), None
        if request.logprobs is not None:
            logprobs = self._logprobs([], request, answer.generation)
        self._offset(index, text)
        return self._chunk({"index": index, "text": text, "logprobs": logprobs, "finish_reason": None})

    def last(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """Build the chunk after all choices that says how many tokens were used."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {**self._envelope(kind), "choices": [], "usage": self.usage(answers)}

    def usage(self, answers: Sequence[Answer]) -> dict[str, int]:
        """Count the tokens read and written; a prompt counts once, however many choices it has."""
        each = len(self.requests) // self.prompts
        read = sum(len(request.prompt) for request in self.requests[::each])
        wrote = sum(len(answer.written) for answer in answers)
        return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}

    def _chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {**self._envelope(kind), "choices": [choice], **({"usage": None} if self.with_usage else {})}

    def _offset(self, index: int, text: str) -> int:
        """Return where a piece of text begins in the text of its choice."""
        before = self._offsets.get(index, 0)
        self._offsets[index] = before + len(text)
        return before

    def _envelope(self, kind: str) -> dict[str, Any]:
        prefix = "chatcmpl" if self.chat else "cmpl"
        return {
            "id": f"{prefix}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model.name,
            "system_fingerprint": self.model.fingerprint,
        }

    def _choice(self, index: int, answer: Answer) -> dict[str, Any]:
        request = self.requests[index]
        told = answer.written if request.logprobs is not None else None
        choice: dict[str, Any] = {"index": index, "finish_reason": _reason(answer.finish)}
        if self.chat:
            message = {"role": "assistant", "content": answer.text, "refusal": None}
            return choice | {"message": message, "logprobs": self._chat_logprobs(told, request)}
        text = (self._prompt(request) if self.echoed else "") + answer.text
        return choice | {
            "text": text,
            "logprobs": self._logprobs(told, request, answer.generation if self.echoed else None),
        }

    def _prompt(self, request: Request) -> str:
        return decode(self.model.engine.tokenizer, (i for i in request.prompt if not self._is_hidden(i, request)))

    def _is_hidden(self, id: int, request: Request) -> bool:  # noqa: A002
        """Tell whether a token is special, and not spelled out in the text."""
        return id in self.model.special and not request.special

    def _name(self, id: int) -> str:  # noqa: A002
        """Return a token's name: its text, a special token's spelling, or bytes where they are part of a character."""
        piece = spelling(self.model.engine.tokenizer, id)
        try:
            return piece.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)

    def _logprobs(
        self,
        tokens: Sequence[Token] | None,
        request: Request,
        prompt_of: Generation | None = None,
        *,
        offset: int = 0,
    ) -> dict[str, Any] | None:
        """The parallel lists of a completion, beginning with the prompt's where it is repeated."""
        if tokens is None:
            return None
        ids, chances = [token.id for token in tokens], [token.chance for token in tokens]
        if prompt_of:
            # Of a prompt that was not read to its end there are fewer.
            known = [None, *prompt_of.prompt_chances, *[None] * len(request.prompt)][: len(request.prompt)]
            ids, chances = [*request.prompt, *ids], [*known, *chances]
        names, offsets, decoder = [self._name(token) for token in ids], [], getincrementaldecoder("utf-8")("replace")
        for token in ids:
            offsets.append(offset)
            if not self._is_hidden(token, request):
                offset += len(decoder.decode(spelling(self.model.engine.tokenizer, token)))
        return {
            "tokens": names,
            "token_logprobs": [chance and chance.logprob for chance in chances],
            "top_logprobs": [
                chance and self._likeliest(token, chance) for token, chance in zip(ids, chances, strict=True)
            ],
            "text_offset": offsets,
            # Not OpenAI's: what a client needs that shows the tokens, or goes on from some of them.
            "ids": ids,
            "special": [self._is_hidden(token, request) for token in ids],
            "top_ids": [
                [[token, logprob, self._name(token)] for token, logprob in chance.top] if chance else None
                for chance in chances
            ],
        }

    def _likeliest(self, id: int, chance: Chance) -> dict[str, float]:  # noqa: A002
        """The likeliest tokens; the one that was drawn is among them."""
        return {self._name(token): logprob for token, logprob in [*chance.top, (id, chance.logprob)]}

    def _chat_logprobs(self, tokens: Sequence[Token] | None, request: Request) -> dict[str, Any] | None:
        if tokens is None:
            return None
        return {"content": [self._described(token, request) for token in tokens if token.chance], "refusal": None}

    def _described(self, token: Token, request: Request) -> dict[str, Any]:
        assert token.chance
        top = [self._logprob(likely, logprob, request) for likely, logprob in token.chance.top]
        return {**self._logprob(token.id, token.chance.logprob, request), "top_logprobs": top}

    def _logprob(self, id: int, logprob: float, request: Request) -> dict[str, Any]:  # noqa: A002
        """Describe one token; a special token has no bytes, because it stands for no text."""
        piece = None if self._is_hidden(id, request) else list(spelling(self.model.engine.tokenizer, id))
        return {"token": self._name(id), "logprob": logprob, "bytes": piece, "id": id}


def _reason(finish: Finish) -> str:
    """Name why an answer ended in OpenAI's words; a limit of time counts as a limit of length."""
    return "stop" if finish == "stop" else "length"


# What a line ends at for some clients, though JSON allows it in a string.
LINE_ENDS = {ord(c): f"\\u{ord(c):04x}" for c in "\x85\u2028\u2029"}


def event(content: dict[str, Any]) -> str:
    """Write an object as one server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False).translate(LINE_ENDS)}\n\n"
