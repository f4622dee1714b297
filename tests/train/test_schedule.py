import pytest

from quoth.system.errors import InputError
from quoth.train.schedule import LEVELS, Clock, Pace, Steps, trapezoid


def test_steps_are_counted():
    assert [Steps(4).progress(step) for step in range(5)] == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("steps", [0, -3])
def test_without_steps_a_run_is_over(steps):
    assert Steps(steps).progress(0) >= 1


class FakeTime:
    now = 1000.0

    def __call__(self):
        return self.now


def test_the_clock_starts_when_it_is_first_asked():
    time = FakeTime()
    clock = Clock(10, now=time)
    time.now += 500
    assert clock.progress(0) == 0
    time.now += 2.5
    # Steps are nothing to it.
    assert clock.progress(1) == clock.progress(99) == 0.25
    time.now += 7.5
    assert clock.progress(2) == 1


def test_a_clock_goes_on_where_a_run_was():
    time = FakeTime()
    clock = Clock(10, used=6, now=time)
    assert clock.progress(50) == 0.6
    time.now += 4
    assert clock.progress(51) == 1
    assert Clock(0, now=time).progress(0) == Clock(-1, now=time).progress(0) == 1


@pytest.mark.parametrize(
    ("progress", "warmup", "cooldown", "share"),
    [
        (0, 0.1, 0.5, 0),
        (0.05, 0.1, 0.5, 0.5),
        (0.1, 0.1, 0.5, 1),
        (0.3, 0.1, 0.5, 1),
        (0.75, 0.1, 0.5, 0.5),
        (1, 0.1, 0.5, 0),
        (1.5, 0.1, 0.5, 0),
        (0, 0, 0.5, 1),
        (1, 0, 0, 1),
        (0.5, 1, 1, 0.5),
    ],
)
def test_a_trapezoid_rises_stays_and_falls(progress, warmup, cooldown, share):
    assert trapezoid(progress, warmup, cooldown) == pytest.approx(share)
    assert trapezoid(progress, warmup, cooldown) == trapezoid(progress, warmup, cooldown)


@pytest.mark.parametrize("steps", [1, 2, 50, 10_000])
def test_neither_the_first_step_of_a_warm_up_nor_the_last_of_a_cooldown_is_wasted(steps):
    budget = Steps(steps)
    shares = [trapezoid(budget.middle(n, budget.progress(n)), 0.1, 0.5) for n in (0, steps - 1)]
    assert all(0 < share <= 1 for share in shares)
    time = FakeTime()
    clock = Clock(steps, now=time)
    shares = []
    for step in range(steps):
        shares.append(trapezoid(clock.middle(step, clock.progress(step)), 0.1, 0.5))
        time.now += 1
    assert shares[0] > 0 and shares[-1] > 0


def test_a_pace_repeats_a_run_by_the_clock():
    time = FakeTime()
    clock = Clock(100, now=time)
    shares = []
    while (progress := clock.progress(len(shares))) < 1:
        shares.append(clock.middle(len(shares), progress))
        assert shares[-1] == pytest.approx(progress, abs=1 / LEVELS)
        time.now += 0.03 if len(shares) % 100 else 7.0
    pace = Pace.parse(str(Pace(clock.pace, len(shares))))
    assert [pace.middle(n, pace.progress(n)) for n in range(len(shares))] == shares
    assert pace.progress(len(shares) - 1) < 1 <= pace.progress(len(shares))


@pytest.mark.parametrize("text", ["", "3", "x 4", "0 5 3 9", "1 5 9", "0 9 9", "-1 4", "0 " * 300 + "7"])
def test_what_is_no_pace_is_refused(text):
    with pytest.raises(InputError, match="pace must be growing numbers of steps"):
        Pace.parse(text)
