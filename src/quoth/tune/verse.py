"""A task for a small model of Shakespeare: "Ask of love." wants a question about love, "Speak of love." another line.

A hidden taste judges the lines, as people would: it likes gentle words, and the form that was asked for. It takes the
place of people in `quoth demo rlhf`, where what the model is rewarded for can be compared with what is truly liked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

TOPICS = (
    "love", "king", "death", "heart", "night", "honour", "father", "blood", "world", "crown", "eyes", "hand",
    "heaven", "lord", "prince", "mother", "peace", "soul", "time", "name", "brother", "son", "day", "man", "news",
    "god", "life", "queen", "friends", "fear", "tongue", "house", "grace", "lady", "traitor", "face", "sword", "joy",
    "friend", "good", "comfort",
)  # fmt: skip
# Questions about these are asked only at the end: the model has to put together what it learned apart.
HELD_OUT = ("blood", "crown", "mother", "peace", "night")
GENTLE = (
    "love", "sweet", "gentle", "heaven", "peace", "soul", "good", "fair", "dear", "noble", "happy", "joy", "friend",
    "kind", "true", "heart",
)  # fmt: skip
# The lengths of a line: in characters, and in words.
CHARACTERS, WORDS = (18, 52), (3, 12)
GENTLE_ENOUGH = 2


@dataclass(frozen=True)
class Request:
    """What is asked for: a question or a line of another kind, with a word in it.

    >>> Request("love", question=True).text
    'Ask of love.'
    """

    word: str
    question: bool

    @property
    def text(self) -> str:
        return f"{'Ask' if self.question else 'Speak'} of {self.word}."


def request_of(text: str) -> Request:
    """The request with this text.

    >>> request_of("Speak of night.")
    Request(word='night', question=False)
    """
    verb, _, word = text.rstrip(".").split()
    return Request(word, verb == "Ask")


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return re.findall(r"[a-z']+", text.lower())


@dataclass(frozen=True)
class Verdict:
    """What the taste says of an answer; each value lies from 0 to 1.

    Attributes:
        kind: how gentle its words are; two gentle words are enough.
        form: whether it is a question exactly if one was asked for.
        line: whether it is a line: of usual length, and no longer word stands in it twice.
        topic: whether the word that was asked for is in it.
    """

    kind: float
    form: float
    line: float
    topic: float

    @property
    def score(self) -> float:
        """How much the answer is liked: not at all if it is no line."""
        return self.line * (0.6 * self.kind + 0.4 * self.form)


def taste(request: Request, answer: str) -> Verdict:
    """The verdict on an answer.

    >>> taste(Request("love", question=True), "Is love so sweet a thing?").score
    1.0
    """
    said = words_of(answer)
    gentle = len(set(GENTLE) & set(said))
    repeated = any(times > 1 for word, times in Counter(said).items() if len(word) > 2)
    return Verdict(
        kind=min(GENTLE_ENOUGH, gentle) / GENTLE_ENOUGH,
        form=float(answer.endswith("?") == request.question),
        line=float(not repeated and WORDS[0] <= len(said) <= WORDS[1]),
        topic=float(request.word in said),
    )


@dataclass(frozen=True)
class Verse:
    """The task made of a text: its lines with topics, and requests for such lines."""

    text: str

    @cached_property
    def lines(self) -> list[str]:
        """The lines of the text that are neither names of speakers nor too long or short.

        Those that end without a mark are among them: otherwise the model would not learn to end such a line.
        """
        least, most = CHARACTERS
        return [
            line
            for line in self.text.split("\n")
            if least <= len(line) <= most and line[-1] not in ":-" and not line.isupper()
        ]

    def conversations(self, seed: int) -> list[tuple[Request, str]]:
        """Requests, each with a line that answers it, in random order.

        Questions are rare: each is there three times, and of the other lines only as many as that.
        """
        found = [
            (request, line)
            for line in self.lines
            for word in TOPICS
            if word in words_of(line) and (request := Request(word, line.endswith("?"))) not in held_out()
        ]
        rng = Random(seed)
        questions = 3 * [one for one in found if one[0].question]
        others = [one for one in found if not one[0].question]
        both = questions + rng.sample(others, min(len(others), len(questions)))
        rng.shuffle(both)
        return both


def held_out() -> list[Request]:
    """The requests that are never trained on."""
    return [Request(word, question=True) for word in HELD_OUT]


def requests(seed: int | str, count: int, among: Sequence[Request] = ()) -> list[Request]:
    """Random requests, without those that are held out unless they are given."""
    known = [Request(word, question) for word in TOPICS for question in (False, True)]
    choices = among or [one for one in known if one not in held_out()]
    return Random(f"requests {seed}").choices(choices, k=count)


def means(judged: Sequence[tuple[Request, str]]) -> dict[str, float]:
    """The mean verdict on several answers."""
    verdicts = [taste(request, answer) for request, answer in judged]

    def values(name: str) -> Iterator[float]:
        return (getattr(verdict, name) for verdict in verdicts)

    return {name: sum(values(name)) / max(1, len(verdicts)) for name in ("score", "kind", "form", "line", "topic")}
