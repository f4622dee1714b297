"""The task of the demo, and the taste that judges it."""

from __future__ import annotations

import pytest

from quoth.tune.verse import Request, Verse, held_out, means, request_of, requests, taste

TEXT = """ROMEO:
What is the name of love to thee?
My heart is full of love and peace.
Too short.
THE KING AND QUEEN OF LOVE
The crown that is upon the king's own head;
What crown is this that I behold today?
"""


def test_lines_with_topics_answer_requests() -> None:
    found = Verse(TEXT).conversations(seed=1)
    assert (Request("love", question=True), "What is the name of love to thee?") in found
    assert found.count((Request("name", question=True), "What is the name of love to thee?")) == 3
    assert found.count((Request("heart", question=False), "My heart is full of love and peace.")) == 1
    assert not {request for request, _ in found} & set(held_out())


def test_requests_are_what_their_texts_say() -> None:
    for request in requests(1, 50):
        assert request_of(request.text) == request
        assert request not in held_out()
    assert set(requests(1, 50, held_out())) <= set(held_out())
    assert requests(1, 50) == requests(1, 50) != requests(2, 50)


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("Is love so sweet a thing?", 1.0),
        ("Is love so sweet a thing.", 0.6),
        ("Is love a thing?", 0.7),
        ("Is this a thing?", 0.4),
        ("Love, love, sweet love?", 0.0),
        ("Love?", 0.0),
        ("", 0.0),
    ],
)
def test_the_taste(answer: str, score: float) -> None:
    assert taste(Request("love", question=True), answer).score == pytest.approx(score)


def test_means() -> None:
    asked = Request("love", question=True)
    found = means([(asked, "Is love so sweet a thing?"), (asked, "Love?")])
    assert found["score"] == 0.5 and found["line"] == 0.5 and found["topic"] == 1
