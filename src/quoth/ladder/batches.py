"""Chunks of text, and batches of chunks: what one step of training sees."""

from __future__ import annotations

from collections.abc import Iterator

from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Show, Table

B, T = 4, 8  # Of the batch; the chunk is the text.


def examples(lesson: Lesson) -> list[tuple[str, str]]:
    """The T examples inside a chunk of T + 1 tokens, here the text's, as (input, target)."""
    chunk = lesson.ids.tolist()
    return [(lesson.read(chunk[:t]), lesson.read(chunk[t : t + 1])) for t in range(1, len(chunk))]


def explain(lesson: Lesson) -> Iterator[Part]:
    """The examples in the text as one chunk, x and y of four chunks, and that a batch is a function of its number."""
    rows = [(repr(known), repr(target)) for known, target in examples(lesson)]
    title = f"The text as a chunk of {len(rows) + 1} tokens; examples in it: {len(rows)}"
    yield Table(title, ["when the input is", "the target is"], rows)
    yield Say("So a model learns to go on from one token, from two, and from as many as its context holds.")
    batches = lesson.corpus.batches(B, T, seed=lesson.seed)
    (batch,) = batches[0]
    yield Show(f"x of step 0, (B, T) = ({B}, {T})", batch.x_BT)
    yield Show("y: the same, one token later", batch.y_BT)
    (again,) = batches[0]
    same = bool((again.x_BT == batch.x_BT).all())
    yield Say(
        f"{B * T} examples at once, none knowing of another row. Step 0 asked for again is the same batch ({same}): "
        "which windows a step sees follows from the seed and the step's number alone, so nothing has to be remembered "
        "to go on with a run, and each window is seen once before any is seen twice."
    )
