"""Text as whole numbers and back; the same sentence in four tokenizers."""

from __future__ import annotations

from collections.abc import Iterator

from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Show, Table
from quoth.system.errors import InputError
from quoth.text.tokenizer import Tokenizer, build

SPECS = ("characters", "bytes", "bpe:512", "gpt2")
PIECES = 12


def tokenizers(lesson: Lesson) -> dict[str, Tokenizer | str]:
    """Each kind, made for the lesson's corpus; a sentence in place of one that cannot be had."""
    learned_from = lesson.read(lesson.train[:500_000].tolist())
    made: dict[str, Tokenizer | str] = {}
    for spec in SPECS:
        if spec != "characters":
            lesson.progress(f"making the tokenizer {spec}", 0, 1)
        try:
            made[spec] = build(spec, "", lambda: iter([learned_from])) if spec != "characters" else lesson.tokenizer
        except InputError as error:
            made[spec] = str(error)
    return made


def explain(lesson: Lesson) -> Iterator[Part]:
    """Characters to ids and back, four tokenizers, and the split."""
    ids, text = lesson.ids.tolist(), lesson.read(lesson.ids.tolist())
    table = [(name, i) for name, i in dict(zip(lesson.names(lesson.ids), ids, strict=True)).items()]
    yield Show("ids", lesson.ids)
    yield Table("A character is a number", ["character", "id"], sorted(table, key=lambda row: row[1]))
    yield Say(f"encode: {text!r}\n     → {ids}\ndecode: → {text!r}")
    rows: list[tuple[str | int | float, ...]] = []
    for spec, tokenizer in tokenizers(lesson).items():
        if isinstance(tokenizer, str):
            yield Say(tokenizer)
            continue
        encoded = tokenizer.encode(text).tolist()
        pieces = "|".join(tokenizer.pieces[i].decode("utf-8", "replace") for i in encoded[:PIECES])
        rows.append((spec, tokenizer.vocabulary, len(encoded), repr(pieces)[1:-1]))
    yield Table("The same text in each", ["tokenizer", "vocabulary", "tokens", f"first {PIECES} pieces"], rows)
    yield Say(
        "A larger vocabulary makes shorter sequences, and a larger table at both ends of the model. Characters are the "
        "lecture's choice, and this one's default: nothing has to be explained before the model."
    )
    train, validation = len(lesson.corpus.train), len(lesson.corpus.validation)
    yield Say(
        f"Of {lesson.corpus.name}, the first {train:,} tokens are for training and the last {validation:,} are kept to "
        f"judge by ({train / (train + validation):.0%} and {validation / (train + validation):.0%}): a model that has "
        "learned its text by heart shows there that it has."
    )
