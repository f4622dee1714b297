import random
import re

import pytest

from quoth.tune.health import CHECKS, Iteration, Watch, warnings


def iteration(**given):
    return Iteration(**({"reward": 0.4, "kl": 2.0, "length": 30.0, "distinct": 1.0, "ended": 0.99} | given))


def run(steps=20, **course):
    """Iterations whose numbers go from a first to a last value, with some noise."""
    noise = random.Random(0)

    def at(n, begin, end):
        return begin + (end - begin) * n / (steps - 1) + noise.gauss(0, 0.01 * (abs(begin) + abs(end)))

    return [iteration(**{name: at(n, *ends) for name, ends in course.items()}) for n in range(steps)]


# The courses that runs take, and what is told of each; the numbers are like those of small models.
COURSES = {
    "healthy": (dict(reward=(0.0, 1.0), true_reward=(0.4, 0.55), kl=(0, 9), distinct=(1.0, 0.6), equal=(0.1, 0.4)), []),
    "healthy without truth": (dict(reward=(0.0, 1.0), kl=(0, 9), distinct=(1.0, 0.6)), []),
    "found one phrase": (dict(reward=(0.4, 0.99), true_reward=(0.4, 0.99), distinct=(1.0, 0.05)), ["collapsed"]),
    "beta 0": (dict(reward=(0.0, 2.0), true_reward=(0.5, 0.3), kl=(0, 60)), ["hacked", "ran_away"]),
    "one phrase for a reward model": (dict(reward=(0.0, 2.0), distinct=(1.0, 0.4)), ["hacked"]),
    "all solved": (dict(reward=(0.9, 1.0), equal=(0.5, 1.0)), ["all_equal"]),
    "no ends": (dict(ended=(0.99, 0.2), length=(30, 60)), ["never_end"]),
    "long answers": (dict(kl=(0, 60), length=(400, 400)), []),
    "nothing moves": (dict(reward=(0.4, 0.4), true_reward=(0.4, 0.4), distinct=(0.5, 0.5)), []),
    "worse": (dict(reward=(0.4, 0.2), true_reward=(0.4, 0.2)), []),
}


@pytest.mark.parametrize("name", COURSES)
def test_what_goes_wrong_is_told(name):
    course, expected = COURSES[name]
    found = warnings(run(**course))
    assert list(found) == expected
    assert all(re.fullmatch(r"[A-Z0-9].*\.", said) for said in found.values())


def test_an_untuned_model_that_never_ends_is_told_of():
    assert list(warnings(run(ended=(0.01, 0.01)))) == ["never_end"]


def test_noise_is_no_trend():
    noise = random.Random(1)
    often = sum(
        bool(warnings([iteration(reward=noise.gauss(0, 1), true_reward=noise.gauss(0, 1)) for _ in range(20)]))
        for _ in range(1000)
    )
    assert often < 10


def test_each_warning_is_told_once_and_not_again_after_a_resume():
    past = run(reward=(0.0, 2.0), true_reward=(0.5, 0.3), kl=(0, 60))
    watch = Watch()
    told = [said for one in past for said in watch.add(one)]
    assert len(told) == 2
    assert Watch(past[:15]).add(past[15]) == []
    again, resumed = Watch(), Watch(past[:7])
    before = [said for one in past[:7] for said in again.add(one)]
    assert before + [said for one in past[7:] for said in resumed.add(one)] == told


def test_few_iterations_and_unknown_numbers_are_no_reason_for_a_warning():
    broken = {"reward": 1.0, "kl": 99.0, "distinct": 0.01, "ended": 0.0, "equal": 1.0}
    assert warnings([iteration(**broken)] * 7) == {}
    assert warnings([]) == {}
    assert list(warnings([iteration(**broken)] * 8)) == ["ran_away", "all_equal", "never_end"]
    unknown = dict.fromkeys(broken, float("nan"))
    assert warnings([iteration(**unknown)] * 20) == {}
    assert set(CHECKS) == {"collapsed", "hacked", "ran_away", "all_equal", "never_end"}
