"""Comparisons by a person: what comes next, on which side, how it is written down, and what it tells."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quoth.system.errors import InputError
from quoth.tune import comparison
from quoth.tune.comparison import CHOICES, Agreement, Choice, Comparison, Decision, Score
from quoth.tune.comparison_rows import About, Record, row_of
from quoth.tune.read import read_preferences
from quoth.tune.wilson import wilson

ABOUT = About("tuned", "", 3, plain=False)
ASKED = ({"role": "system", "content": "Be brief.\u2028"}, {"role": "user", "content": "Who?\n"})


def upcoming(decisions: Sequence[Decision], seed: int = 3, texts: tuple[str, str] | None = None) -> Comparison:
    if again := comparison.repeat(decisions, seed):
        return again
    number, pair = comparison.next_number(decisions), comparison.next_pair(decisions)
    texts = texts or (f"first of {pair}", f"second of {pair}")
    return Comparison(number, pair, ASKED, texts, (True, False), comparison.side(seed, number))


def decided(count: int, choose: Callable[[Comparison], Choice], seed: int = 3) -> list[Decision]:
    made: list[Decision] = []
    while len(made) < count:
        shown = upcoming(made, seed)
        made.append(Decision(shown, choose(shown), 2.0))
    return made


def by_taste(shown: Comparison) -> Choice:
    """Somebody who prefers the first answer of each even pair, wherever it stands, and finds each fifth pair a tie."""
    if shown.pair % 5 == 0:
        return "tie"
    return "left" if (shown.pair % 2 == 0) == (shown.first_on == "left") else "right"


def test_a_tenth_of_the_pairs_is_shown_again_later_and_once() -> None:
    made = decided(220, by_taste)
    repeats = [one.comparison for one in made if one.comparison.repeat]
    assert abs(len(repeats) - (len(made) - len(repeats)) / comparison.REPEAT_EVERY) <= 1
    assert len({one.pair for one in repeats}) == len(repeats)
    first = {one.comparison.pair: one.comparison for one in made if not one.comparison.repeat}
    for again in repeats:
        assert again.number - first[again.pair].number > comparison.REPEAT_AFTER
        assert again.answers == first[again.pair].answers
    gaps = [other.number - one.number for one, other in pairwise(repeats)]
    assert len(set(gaps)) > 4  # A person cannot know when one comes.
    flipped = sum(again.first_on != first[again.pair].first_on for again in repeats)
    assert 4 <= flipped <= len(repeats) - 4  # Its sides are drawn anew.


@pytest.mark.parametrize("seed", range(4))
def test_sides_are_as_good_as_a_coin(seed: int) -> None:
    sides = [comparison.side(seed, number) == "left" for number in range(4000)]
    bound = NormalDist().inv_cdf(0.9999) * (len(sides) / 4) ** 0.5
    assert abs(sum(sides) - 2000) < bound
    assert abs(sum(one == other for one, other in pairwise(sides)) - 2000) < bound


def test_a_person_agrees_with_himself_by_what_is_said_and_not_by_the_side() -> None:
    assert comparison.self_agreement(decided(220, by_taste)) == Agreement(20, 20)
    agreed = comparison.self_agreement(decided(220, lambda shown: "left"))
    assert agreed.total == 20 and 4 <= agreed.same <= 16
    skipped = comparison.self_agreement(decided(220, lambda shown: "skip" if shown.repeat else by_taste(shown)))
    assert skipped == Agreement(0, 0)


def test_pairs_that_were_skipped_are_not_shown_again() -> None:
    made = decided(60, lambda shown: "skip" if shown.pair % 2 else "left")
    assert any(one.comparison.repeat for one in made)
    assert all(one.comparison.pair % 2 == 0 for one in made if one.comparison.repeat)


def test_counts_by_hand() -> None:
    made = decided(55, by_taste)
    new = [one for one in made if not one.comparison.repeat]
    told = comparison.tally(made)
    assert (told.pairs, told.ties, told.skips) == (len(new), sum(one.comparison.pair % 5 == 0 for one in new), 0)
    assert told.preferred == told.pairs - told.ties
    score = comparison.score(made)
    assert score.total == told.pairs and score.ties == told.ties
    assert score.wins == sum(one.comparison.pair % 2 == 0 for one in new if one.comparison.pair % 5)
    assert score.rate == pytest.approx((score.wins + score.ties / 2) / score.total)
    assert score.interval == wilson(score.wins + score.ties / 2, score.total)
    assert comparison.score([]) == Score(0, 0, 0) and Score(0, 0, 0).rate is None
    assert comparison.tally([]).left is None and comparison.tally([]).seconds is None


TEXTS = st.one_of(st.just(("the king", "a queen")), st.tuples(st.text(max_size=6), st.text(max_size=6)))
MOVES = st.lists(st.one_of(st.tuples(st.sampled_from(CHOICES), TEXTS), st.just("undo"), st.just("again")), max_size=40)


@given(MOVES, st.booleans(), st.booleans())
def test_the_files_give_back_what_was_decided(
    tmp_path_factory: pytest.TempPathFactory, moves: list[object], plain: bool, multi: bool
) -> None:
    """Whatever is decided, taken back, and begun anew: what follows is the same as if nothing had been closed."""
    path = tmp_path_factory.mktemp("made") / "pairs.jsonl"
    about = About("tuned", "other", 3, plain)
    record, expected = Record(path, about), list[Decision]()
    for move in moves:
        if move == "undo":
            if expected:
                assert record.take_back() == expected.pop()
        elif move == "again":
            record.close()
            record = Record(path, about)
        else:
            choice, texts = move  # type: ignore[misc]
            shown = upcoming(expected, texts=texts)
            expected.append(Decision(shown, choice, 1.5))
            record.add(expected[-1])
        assert record.decisions == expected
    record.close()
    teaching = [one for one in expected if one.teaches]
    assert path.exists() == bool(teaching)
    assert record.rest.exists() == (len(teaching) < len(expected))
    if teaching:
        pairs = read_preferences(str(path))
        assert [(one.chosen[0]["content"], one.rejected[0]["content"]) for one in pairs] == [
            (one.comparison.answers[one.preferred or 0], one.comparison.answers[1 - (one.preferred or 0)])
            for one in teaching
        ]
        assert all(one.prompt == ASKED for one in pairs)


def test_a_row_is_in_trls_format() -> None:
    shown = Comparison(4, 2, ASKED[1:], ("A", "B"), (True, True), "right")
    row = row_of(Decision(shown, "left", 2.5), ABOUT)
    assert row["prompt"] == [{"role": "user", "content": "Who?\n"}]
    assert row["chosen"] == [{"role": "assistant", "content": "B"}]
    assert row["rejected"] == [{"role": "assistant", "content": "A"}]
    about = {"choice": "left", "first_on": "right", "number": 4, "pair": 2, "repeat": False, "seconds": 2.5}
    assert row.items() >= {**about, "run": "tuned", "against": "", "seed": 3}.items()
    plain = row_of(Decision(shown, "right", 2.5), About("base", "", 3, plain=True))
    assert (plain["prompt"], plain["chosen"], plain["rejected"]) == ("Who?\n", "A", "B")


def filled(path: Path, count: int = 12) -> Record:
    record, chance = Record(path, ABOUT), random.Random(1)
    for _ in range(count):
        record.add(Decision(upcoming(record.decisions), chance.choice(CHOICES), 1.0))
    return record


def test_a_line_that_a_crash_cut_off_is_made_again(tmp_path: Path) -> None:
    record = filled(tmp_path / "pairs.jsonl")
    record.close()
    content = record.path.read_bytes()
    last = content.rfind(b"\n", 0, -1) + 1
    before = [one for one in record.decisions if one.teaches][:-1]
    for size in range(last, len(content) - 1):
        record.path.write_bytes(content[:size])
        again = Record(record.path, ABOUT)
        assert [one for one in again.decisions if one.teaches] == before
        again.close()
        assert record.path.read_bytes() == content[:last]
    record.path.write_bytes(content[:-1])  # Only the line break is missing.
    again = Record(record.path, ABOUT)
    assert again.decisions == record.decisions
    again.close()
    assert record.path.read_bytes() == content


def test_other_peoples_files_are_left_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    ours = json.dumps(row_of(Decision(upcoming([]), "left", 1.0), About("other", "", 3, plain=False)))
    for content, said in (
        ('{"prompt": "a", "chosen": "b", "rejected": "c"}\n', "line 1: this line was not written by"),
        ('{"chosen": "b", "rejected": "c"}', "line 1: this line was not written by"),
        ("some notes", "line 1: this line was not written by"),
        (ours + "\n", "line 1: this line compares answers of other; give another --out"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=said):
            Record(path, ABOUT)
        assert path.read_text() == content


def test_two_processes_cannot_write_to_one_file(tmp_path: Path) -> None:
    record = filled(tmp_path / "pairs.jsonl")
    with pytest.raises(InputError, match="is in use: another `quoth tune compare` writes to it"):
        Record(record.path, ABOUT)
    record.close()
    Record(record.path, ABOUT).close()


def test_a_line_that_was_taken_out_by_hand_is_not_missed(tmp_path: Path) -> None:
    record = filled(tmp_path / "pairs.jsonl", 40)
    record.close()
    record.path.write_text(record.path.read_text().partition("\n")[2])
    again = Record(record.path, ABOUT)
    assert len(again.decisions) == 39
    assert upcoming(again.decisions).number == 40
    comparison.tally(again.decisions)
    again.close()


def test_what_was_changed_meanwhile_is_not_taken_back(tmp_path: Path) -> None:
    record = filled(tmp_path / "pairs.jsonl")
    for file in (record.path, record.rest):
        file.write_text("a note\n")
    with pytest.raises(InputError, match="was changed meanwhile"):
        record.take_back()
    assert len(record.decisions) == 12
    record.close()


def test_there_is_nothing_to_take_back_at_first(tmp_path: Path) -> None:
    record = Record(tmp_path / "pairs.jsonl", ABOUT)
    with pytest.raises(InputError, match="no decision to take back"):
        record.take_back()
    record.close()
    assert not list(tmp_path.iterdir())
