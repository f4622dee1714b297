import pytest

from quoth.train.schedule import Clock, Steps, trapezoid


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
