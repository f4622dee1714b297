"""A small translation: English words to Pig Latin. Pairs made from the words of a text, some of them held out."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from quoth.system.errors import InputError
from quoth.text.batches import Batch

LETTERS = "abcdefghijklmnopqrstuvwxyz"
# After the letters: what begins and ends a word, and what fills up a row.
BEGIN, END, FILL, VOCABULARY = 26, 27, 28, 29
LONGEST = 12
SOURCE, TARGET = LONGEST, LONGEST + 4  # A word of consonants gains "ay", one that begins with a vowel "way"; and END.
HELD_OUT = 0.1


def pig_latin(word: str) -> str:
    """Leading consonants go to the end, and "ay" after them; a word that begins with a vowel takes "way".

    >>> pig_latin("string"), pig_latin("apple")
    ('ingstray', 'appleway')
    """
    found = re.match(r"[^aeiou]+", word)
    return word[found.end() :] + found[0] + "ay" if found else word + "way"


def words(text: str, seed: int) -> tuple[list[str], list[str]]:
    """The text's distinct words of 2 to 12 letters, shuffled: those to learn from, and those held out.

    Raises:
        InputError: there are too few.
    """
    found = sorted(set(re.findall(rf"\b[a-z]{{2,{LONGEST}}}\b", text.lower())))
    if len(found) < 100:
        raise InputError(f"A translation needs at least 100 different words, but the text has {len(found)}.")
    order = np.random.default_rng(seed).permutation(len(found))
    cut = int(HELD_OUT * len(found))
    return [found[i] for i in order[cut:]], [found[i] for i in order[:cut]]


def ids(word: str, length: int) -> Tensor:
    """Letters as ids, filled up to a length."""
    return torch.tensor([LETTERS.index(c) for c in word] + [FILL] * (length - len(word)))


def read(row: Tensor) -> str:
    """The word of a row of ids, up to its END."""
    until = row.tolist()
    return "".join(LETTERS[i] for i in until[: until.index(END)] if i < 26) if END in until else "?"


@dataclass(frozen=True)
class Pairs:
    """Batches of words with their translations, drawn anew for each step; a function of (seed, step)."""

    words: list[str]
    batch: int
    seed: int

    def __getitem__(self, step: int) -> list[Batch]:
        chosen = np.random.default_rng([self.seed, step]).integers(len(self.words), size=self.batch)
        return [pair_batch([self.words[i] for i in chosen])]


def pair_batch(chosen: list[str]) -> Batch:
    """x the source and then BEGIN and the translation (B, S + T); y the translation and END (B, T)."""
    source = torch.stack([ids(word, SOURCE) for word in chosen])
    written = [torch.cat([ids(t := pig_latin(word), len(t)), torch.tensor([END])]) for word in chosen]
    y = torch.stack([torch.cat([w, torch.full((TARGET - len(w),), FILL)]) for w in written])
    begun = torch.cat([torch.full((len(chosen), 1), BEGIN), y[:, :-1]], dim=1)
    return Batch(torch.cat([source, begun], dim=1), y, (y != FILL).float())
