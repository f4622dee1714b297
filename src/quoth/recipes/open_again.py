"""Open the text of a run again, and make sure that it is the text that the run began with."""

from __future__ import annotations

from pathlib import Path

from quoth.recipes.recipe import Recipe
from quoth.system.errors import InputError
from quoth.system.files import read_json
from quoth.text.corpus import Corpus, corpus
from quoth.text.finding import changes, find
from quoth.text.tokenizer import Tokenizer


def open_again(run: Path, recipe: Recipe, tokenizer: str | Tokenizer | None = None) -> Corpus:
    """The corpus of a run, tokenized by its own tokenizer or by another.

    Raises:
        InputError: the data cannot be read, or is not the data that the run began with.
    """
    c, path = recipe.data, run / "environment.json"
    if not c.data:
        raise InputError(f"{run} was imported and has no data of its own; give --data, or train with --init {run}.")
    began_with = read_json(path) if path.exists() else {}
    if "sources" in began_with and (changed := changes(began_with["sources"], find(c.data).sources())):
        raise InputError(
            f"{c.data} has changed since {run} was trained on it ({changed}), so its training and validation splits "
            "are no longer known; train a new run on it."
        )
    text = corpus(c.data, tokenizer or c.tokenizer, **c.reading)
    if began_with.get("text_sha256", text.manifest["text_sha256"]) != text.manifest["text_sha256"]:
        raise InputError(
            f"The files of {c.data} are those that {run} was trained on, but a different text is now read from them; "
            "install the versions of the packages of quoth[documents] that read them then, or train a new run."
        )
    return text
