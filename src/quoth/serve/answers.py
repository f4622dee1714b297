"""From what an engine writes to the objects that clients of OpenAI's API read."""

from __future__ import annotations

import json
import time
import uuid
from codecs import getincrementaldecoder
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from quoth.generate.request import Chance, Generation, Request, Token
from quoth.serve.asked import Served
from quoth.text.tokenizer import decode, spelling


@dataclass
class Reply:
    """The envelope of one answer, whole or in chunks.

    Attributes:
        chat: whether it is a chat's, or a completion's.
        echoed: whether prompts are repeated.
        with_usage: whether a stream's last chunk tells it.
    """

    model: Served
    requests: Sequence[Request]
    prompts: int
    chat: bool
    echoed: bool = False
    with_usage: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))
    _offsets: dict[int, int] = field(default_factory=dict)  # Of the text of each choice, in a stream.

    def whole(self, generations: Sequence[Generation], finishes: Sequence[str]) -> dict[str, Any]:
        """All choices at once."""
        choices = [
            self._choice(index, generation, finish)
            for index, (generation, finish) in enumerate(zip(generations, finishes, strict=True))
        ]
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._envelope(kind), "choices": choices, "usage": self.usage(generations)}

    def chunk(self, index: int, tokens: Sequence[Token], finish: str | None, *, first: bool = False) -> dict[str, Any]:
        """Some tokens of one choice; at its end why it ended."""
        text = "".join(token.text for token in tokens)
        request = self.requests[index]
        told = None
        if request.logprobs is not None:
            told = [token for token in tokens if token.id not in request.stop_ids]
        choice: dict[str, Any] = {"index": index, "finish_reason": finish}
        if self.chat:
            delta = {"role": "assistant", "content": text} if first else {"content": text} if text else {}
            choice |= {"delta": delta, "logprobs": self._chat_logprobs(told)}
        else:
            choice |= {"text": text, "logprobs": self._logprobs(told, request, offset=self._offset(index, text))}
        return self._chunk(choice)

    def echo(self, index: int, generation: Generation) -> dict[str, Any]:
        """The chunk that repeats a prompt."""
        request = self.requests[index]
        text, logprobs = self._prompt(request), None
        if request.logprobs is not None:
            logprobs = self._logprobs([], request, generation)
        self._offset(index, text)
        return self._chunk({"index": index, "text": text, "logprobs": logprobs, "finish_reason": None})

    def last(self, generations: Sequence[Generation]) -> dict[str, Any]:
        """The chunk after all choices that says what was used."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {**self._envelope(kind), "choices": [], "usage": self.usage(generations)}

    def usage(self, generations: Sequence[Generation]) -> dict[str, int]:
        """Tokens read and written; a prompt counts once however many choices there are."""
        each = len(self.requests) // self.prompts
        read = sum(len(request.prompt) for request in self.requests[::each])
        wrote = sum(len(generation.answer) for generation in generations)
        return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}

    def _chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {**self._envelope(kind), "choices": [choice], **({"usage": None} if self.with_usage else {})}

    def _offset(self, index: int, text: str) -> int:
        """Where a text begins in its choice's."""
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

    def _choice(self, index: int, generation: Generation, finish: str) -> dict[str, Any]:
        request = self.requests[index]
        told = generation.tokens if request.logprobs is not None else None
        choice: dict[str, Any] = {"index": index, "finish_reason": finish}
        if self.chat:
            message = {"role": "assistant", "content": generation.text, "refusal": None}
            return choice | {"message": message, "logprobs": self._chat_logprobs(told)}
        text = (self._prompt(request) if self.echoed else "") + generation.text
        return choice | {"text": text, "logprobs": self._logprobs(told, request, generation if self.echoed else None)}

    def _prompt(self, request: Request) -> str:
        return decode(self.model.engine.tokenizer, request.prompt)

    def _name(self, id: int) -> str:  # noqa: A002
        """A token as text, a special one by its name; part of a character as its bytes."""
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
            offset += len(decoder.decode(self.model.engine.tokenizer.pieces[token]))
        return {
            "tokens": names,
            "token_logprobs": [chance and chance.logprob for chance in chances],
            "top_logprobs": [
                chance and self._likeliest(token, chance) for token, chance in zip(ids, chances, strict=True)
            ],
            "text_offset": offsets,
            # Not OpenAI's: what a client needs that goes on from some of these tokens.
            "ids": ids,
            "top_ids": [
                [[token, logprob, self._name(token)] for token, logprob in chance.top] if chance else None
                for chance in chances
            ],
        }

    def _likeliest(self, id: int, chance: Chance) -> dict[str, float]:  # noqa: A002
        """The likeliest tokens; the one that was drawn is among them."""
        return {self._name(token): logprob for token, logprob in [*chance.top, (id, chance.logprob)]}

    def _chat_logprobs(self, tokens: Sequence[Token] | None) -> dict[str, Any] | None:
        if tokens is None:
            return None
        return {"content": [self._described(token) for token in tokens if token.chance], "refusal": None}

    def _described(self, token: Token) -> dict[str, Any]:
        assert token.chance
        top = [self._logprob(likely, logprob) for likely, logprob in token.chance.top]
        return {**self._logprob(token.id, token.chance.logprob), "top_logprobs": top}

    def _logprob(self, id: int, logprob: float) -> dict[str, Any]:  # noqa: A002
        piece = self.model.engine.tokenizer.pieces[id]
        return {"token": self._name(id), "logprob": logprob, "bytes": list(piece), "id": id}


def event(content: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
