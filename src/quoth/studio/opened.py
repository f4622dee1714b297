"""A run that the studio has open: its model as it was at any moment that was kept, and what it was trained on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quoth.generate.engine import Engine
from quoth.generate.request import Generation, Request
from quoth.generate.sampling import Sampling
from quoth.look.parts import Part, part_from
from quoth.model.gpt import GPT
from quoth.system.errors import InputError, Interrupted
from quoth.text.corpus import Corpus
from quoth.text.tokenizer import Tokenizer
from quoth.text.tokenizer import read as read_tokenizer
from quoth.train.checkpoint import load_weights, read_config
from quoth.train.keeper import moments
from quoth.train.manifest import verify

# How many tokens a text may have for each that the model can read at once.
LONGEST = 16


@dataclass(frozen=True)
class Text:
    """A text that is looked at: the ids that the model reads, at most its context, and how many came before them."""

    id_T: torch.Tensor
    before: int


class OpenRun:
    """A run whose moments can be looked at. One thread at a time may use the model.

    Args:
        folder: the run's.
        read_corpus: opens what the run was trained on; raises InputError where that is gone or unknown.

    Attributes:
        model: the model with the weights of the moment that was last asked for.

    Raises:
        InputError: the run has no intact checkpoint, or one of another kind of model.
    """

    def __init__(self, folder: Path, read_corpus: Callable[[], Corpus]) -> None:
        self.folder, self._read_corpus = folder, read_corpus
        found = list(moments(folder).values())
        if not found:
            raise InputError(f"The run {folder} has no checkpoint yet.")
        self.tokenizer: Tokenizer = read_tokenizer(found[-1])
        self.model = GPT(read_config(found[-1])).eval()
        self._at: Path | None = None
        self._whole: set[Path] = set()
        self._engine: Engine | None = None
        self._reading = threading.Lock()
        self._corpus: Corpus | InputError | None = None
        self._names = {number: name for name, number in self.tokenizer.special.items()}
        self.at(self.steps()[-1])

    def steps(self) -> list[int]:
        """The steps after which the weights were kept; while a run trains there come to be more."""
        return list(moments(self.folder))

    def corpus(self) -> Corpus:
        """What the run was trained on, opened once.

        Raises:
            InputError: it cannot be read, or is not what the run was trained on.
        """
        with self._reading:
            if self._corpus is None:
                try:
                    self._corpus = self._read_corpus()
                except InputError as error:
                    self._corpus = error
        if isinstance(self._corpus, InputError):
            raise self._corpus
        return self._corpus

    def at(self, step: int) -> GPT:
        """The model as it was after a step.

        Raises:
            InputError: the weights of that step were not kept, or are damaged.
        """
        folder = moments(self.folder).get(step)
        if folder is None:
            raise InputError(f"The weights of step {step:,} are not there any more, or were never kept.")
        if folder != self._at:
            if folder not in self._whole:
                verify(folder)
                self._whole.add(folder)
            self._at = None
            load_weights(folder, self.model)
            self._at = folder
        return self.model

    def parts(self, names: Sequence[str]) -> list[Part]:
        """The parts that names stand for.

        Raises:
            InputError: the model has no such part.
        """
        return [part_from(name, self.model.config) for name in names]

    def text(self, text: str) -> Text:
        """The ids of a text, as the model would read it: after those that every text begins with, the last ones.

        Raises:
            InputError: a character is unknown, or there are too few tokens or too many.
        """
        id_T = [*self.tokenizer.begins, *self.tokenizer.encode(text).tolist()]
        context = self.model.config.context
        if len(id_T) < 2:
            raise InputError("A text to look at needs at least two tokens, since each is predicted from those before.")
        if len(id_T) > LONGEST * context:
            raise InputError(
                f"The text has {len(id_T):,} tokens, and the model reads {context:,} at once; look at fewer than "
                f"{LONGEST * context:,}."
            )
        return Text(torch.tensor(id_T[-context:]), max(0, len(id_T) - context))

    def piece(self, id: int) -> str:  # noqa: A002
        """What a token shows: its text, or the name of a special token."""
        return self._names.get(id) or self.tokenizer.pieces[id].decode("utf-8", "replace")

    def write(
        self, model: GPT, prompt: str, tokens: int, sampling: Sampling, seed: int, go_on: Callable[[], bool]
    ) -> Generation:
        """Let a model of this shape go on from a prompt.

        Raises:
            InputError: the prompt has a character that the tokenizer does not know.
            Interrupted: `go_on`, which is called before each token, returned false.
        """
        if self._engine is None:
            self._engine = Engine(model, self.tokenizer, slots=1, threads=1, compiled=True)
        else:
            self._engine.reload(model)
        engine = self._engine
        ends = frozenset(self.tokenizer.ends)
        ids = engine.prompt_ids(prompt)
        generation = engine.submit(
            Request(prompt=ids, tokens=tokens, sampling=sampling, seed=seed, stop_ids=ends, special=True)
        )
        while not generation.finish:
            if not go_on():
                generation.cancelled = True
                engine.step()
                raise Interrupted
            engine.step()
        return generation

    def said(self, ids: Sequence[int] | NDArray[Any]) -> str:
        """The text of some ids."""
        return b"".join(self.tokenizer.pieces[i] for i in np.asarray(ids).tolist()).decode("utf-8", "replace")
