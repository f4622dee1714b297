"""Tokens → text, as they come: whole characters only, and nothing of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from quoth.text.tokenizer import Tokenizer


class Detokenizer:
    """The text of a growing answer, given out in pieces.

    No piece splits a character, or holds what may become a stop string; `stopped` is true once one was met, and
    nothing comes after it. The names of special tokens are no text, unless `special` asks for them; one that is a stop
    string stops all the same.

    >>> detokenizer = Detokenizer(Bytes(), stop=["lo"])                     # doctest: +SKIP
    >>> [detokenizer.add(i) for i in b"hello"], detokenizer.stopped         # doctest: +SKIP
    (['h', 'e', '', 'l', ''], True)
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = (), *, special: bool = False) -> None:
        self._pieces, self._stop = tokenizer.pieces, [s for s in stop if s]
        self._special = {token: name for name, token in tokenizer.special.items()}
        self._with_special = special
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held, self.stopped = "", False

    def add(self, token: int) -> str:
        """What can be read now that could not before."""
        if (name := self._special.get(token)) is None:
            return self._give(self._decoder.decode(self._pieces[token]))
        if self._with_special:
            return self._give(self._decoder.decode(name.encode()))
        if name not in self._stop or self.stopped:
            return ""
        text = self.end()
        self.stopped = True
        return text

    def end(self) -> str:
        """What was held back, where no more tokens come."""
        text = self._give(self._decoder.decode(b"", final=True)) + self._held
        self._held = ""
        return text

    def _give(self, new: str) -> str:
        if self.stopped:
            return ""
        held = self._held + new
        if found := [at for at in (held.find(s) for s in self._stop) if at >= 0]:
            self.stopped, self._held = True, ""
            return held[: min(found)]
        # A tail that may yet become a stop string waits.
        keep = max((n for s in self._stop for n in range(1, len(s)) if held.endswith(s[:n])), default=0)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]
