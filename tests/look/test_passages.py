"""Passages of a training text, against a search of all of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quoth.look import passages as module
from quoth.look.passages import passages
from quoth.system.errors import Interrupted

few = st.lists(st.integers(0, 2), min_size=1, max_size=12)


def searched(train, text, longest, most):
    counts, ends = [], []
    for n in range(1, min(longest, len(text)) + 1):
        found = [at + n for at in range(len(train) - n + 1) if train[at : at + n] == text[-n:]]
        if not found:
            break
        counts.append(len(found))
        ends = found[:most]
    return counts, ends


@given(st.lists(st.integers(0, 2), max_size=60), few, st.integers(1, 8), st.integers(1, 4), st.integers(1, 70))
def test_all_passages_are_found(train, text, longest, most, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        found = passages(np.array(train, np.uint16), np.array(text), longest=longest, most=most)
    assert (found.counts, found.ends) == searched(train, text, longest, most)
    assert found.length == len(found.counts)


def test_a_search_ends_when_it_is_told_to():
    with pytest.raises(Interrupted):
        passages(np.array([1]), np.array([1]), go_on=lambda: False)
