"""Exercises on translation."""

from quoth.ladder.checker.exercise import Exercise
from quoth.ladder.pig_latin import pig_latin


def decoder_input(target: list[int], begin: int) -> list[int]:
    """What the decoder reads so that place t is to predict target[t]: begin, and then all but the last."""
    return [begin, *target[:-1]]


def reads_the_answer(target, begin):
    """The decoder reads what it is to predict; it should be one token behind."""
    return target


def too_long(target, begin):
    """The last token is read, but nothing is left to predict after it."""
    return [begin, *target]


def wrong_way(target, begin):
    """The target is moved the wrong way: begin should come first."""
    return [*target[1:], begin]


def translate(word: str) -> str:
    """Pig Latin: leading consonants go to the end and "ay" after them; before a vowel nothing moves, and "way" follows.
    Vowels are a, e, i, o, u; all others, y too, are consonants.
    """
    return pig_latin(word)


def one_consonant(word):
    """Only the first letter moves; all leading consonants should."""
    return word + "way" if word[0] in "aeiou" else word[1:] + word[0] + "ay"


def vowels_too(word, *, of=translate):
    """A word that begins with a vowel takes "way", not "ay"."""
    return word + "ay" if word[0] in "aeiou" else of(word)


def last_vowel(word):
    """Letters move up to the last vowel; it should be the first."""
    cut = max((i for i, c in enumerate(word) if c in "aeiou"), default=len(word))
    return word[cut:] + word[:cut] + "ay" if word[0] not in "aeiou" else word + "way"


EXERCISES = (
    Exercise(decoder_input, (reads_the_answer, too_long, wrong_way), lambda rng: [([4, 5, 6, 27], 26), ([1, 27], 26)]),
    Exercise(
        translate, (one_consonant, vowels_too, last_vowel), lambda rng: [("string",), ("apple",), ("sea",), ("river",)]
    ),
)
