from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.instances.probe_schedule import FIRST_TOGETHER_SECS, MOST_A_TURN, TOGETHER_SECS, ProbeSchedule


class Timer:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when, self.callback = when, callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Clock:
    """An event loop's clock and timers, as far as a schedule needs them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.set: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(when, callback)
        self.set.append(timer)
        return timer

    @property
    def waiting(self) -> list[Timer]:
        return [timer for timer in self.set if not timer.is_cancelled]

    def turn(self) -> None:
        """Call what is due now."""
        ready = [timer for timer in self.waiting if timer.when <= self.now]
        self.set = [timer for timer in self.waiting if timer not in ready]
        for timer in ready:
            timer.callback()

    def run(self, seconds: float) -> None:
        """Let so many seconds go by, with all that is called in them at its time."""
        end = self.now + seconds
        while ready := [timer.when for timer in self.waiting if timer.when <= end]:
            self.now = max(self.now, min(ready))
            self.turn()
        self.now = end


class Rig:
    """A schedule, and when which key was due."""

    def __init__(self, interval: float = 5.0) -> None:
        self.clock = Clock()
        self.told: list[tuple[str, float]] = []
        self.schedule = ProbeSchedule(self.clock, self.on_due, interval)

    def on_due(self, key: str) -> None:
        self.told.append((key, self.clock.now - 1000.0))

    def times(self, key: str) -> list[float]:
        return [round(when, 9) for told, when in self.told if told == key]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_one_is_due_first_then_later_then_once_an_interval(rig) -> None:
    rig.schedule.put("a", 1.0, 2.0)
    rig.clock.run(20.0)
    assert rig.times("a") == [1.0, 3.0, 8.0, 13.0, 18.0]


def test_one_that_is_due_at_once_waits_for_nobody(rig) -> None:
    rig.clock.run(0.013)  # between two moments at which the others are looked at
    rig.schedule.put("later", 1.0, 5.0)
    rig.schedule.put("now", 0.0, 5.0)
    rig.clock.turn()
    assert rig.told == [("now", pytest.approx(0.013))]


def test_those_that_are_due_at_nearly_the_same_time_come_together(rig) -> None:
    for number in range(100):
        rig.schedule.put(str(number), 1.0 + number * FIRST_TOGETHER_SECS / 200, 5.0)
    rig.clock.run(2.0)
    assert len(rig.told) == 100
    assert len({when for _, when in rig.told}) <= 2


def test_those_of_a_large_fleet_wake_nobody_for_each_of_them(rig) -> None:
    for number in range(1000):
        rig.schedule.put(str(number), number / 200, 5.0)
    rig.clock.run(5.0 + TOGETHER_SECS)
    rig.told.clear()
    rig.clock.run(5.0)
    assert len(rig.told) == 1000
    assert len({when for _, when in rig.told}) <= 5.0 / TOGETHER_SECS + 1


def test_one_that_is_due_for_the_first_time_doesnt_wait_for_those_that_are_due_again(rig) -> None:
    rig.schedule.put("again", 0.0, 1.01)
    rig.clock.run(1.0)
    rig.schedule.put("first", 0.02, 5.0)
    rig.clock.run(0.02 + FIRST_TOGETHER_SECS)
    assert rig.told[-1][0] == "first"


def test_a_timer_that_comes_early_is_taken_for_due(rig) -> None:
    rig.schedule.put("a", 1.0, 5.0)
    [timer] = rig.clock.waiting
    rig.clock.now = timer.when - 0.0004
    timer.callback()
    assert len(rig.told) == 1


def test_there_is_one_timer_however_many_there_are(rig) -> None:
    for number in range(1000):
        rig.schedule.put(str(number), 5.0 - number / 200, 5.0)
        assert len(rig.clock.waiting) == 1
    rig.clock.run(7.0)
    assert len(rig.clock.waiting) == 1
    rig.schedule.clear()
    assert rig.clock.waiting == []


def test_being_late_moves_nothing_and_what_was_missed_is_not_made_up_for(rig) -> None:
    rig.schedule.put("a", 1.0, 5.0)
    rig.clock.now += 12.5  # the process stood still, at 1, 6 and 11
    rig.clock.turn()
    assert rig.times("a") == [12.5]
    rig.clock.run(10.0)
    assert rig.times("a") == [12.5, 16.0, 21.0]


def test_where_thousands_are_due_at_once_others_have_a_turn(rig) -> None:
    for number in range(3 * MOST_A_TURN):
        rig.schedule.put(str(number), 1.0, 5.0)
    rig.clock.now += 2.0
    for turn in range(1, 4):
        rig.clock.turn()
        assert len(rig.told) == turn * MOST_A_TURN
    assert len({key for key, _ in rig.told}) == 3 * MOST_A_TURN


def test_a_short_interval_is_kept() -> None:
    rig = Rig(interval=0.01)
    rig.schedule.put("a", 0.0, 0.01)
    rig.clock.run(0.1005)
    assert len(rig.told) == 11


def test_what_is_put_in_again_is_due_by_the_new_word_alone(rig) -> None:
    rig.schedule.put("a", 1.0, 5.0)
    rig.schedule.put("a", 3.0, 5.0)
    rig.schedule.put("b", 3.0, 5.0)
    rig.schedule.put("b", 1.0, 5.0)
    rig.clock.run(5.0)
    assert (rig.times("a"), rig.times("b")) == ([3.0], [1.0])


def test_another_interval_holds_for_what_is_put_in_then(rig) -> None:
    rig.schedule.put("a", 1.0, 3600.0)
    rig.schedule.clear()
    rig.schedule.interval = 1.0
    rig.schedule.put("a", 0.5, 1.0)
    rig.clock.run(3.0)
    assert rig.times("a") == [0.5, 1.5, 2.5]


def test_what_one_meets_keeps_no_other_from_being_due(rig) -> None:
    def fail(key: str) -> None:
        rig.on_due(key)
        if key == "a":
            raise ValueError(key)

    schedule = ProbeSchedule(rig.clock, fail, 5.0)
    schedule.put("a", 1.0, 5.0)
    schedule.put("b", 1.0, 5.0)
    rig.clock.now += 1.0
    with pytest.raises(ValueError, match="a"):
        rig.clock.turn()
    rig.clock.turn()
    assert [key for key, _ in rig.told] == ["a", "b"]


def test_one_may_be_dropped_or_put_in_by_what_is_told(rig) -> None:
    def change(key: str) -> None:
        rig.on_due(key)
        schedule.drop("b")
        schedule.put("c", 0.0, 5.0)

    schedule = ProbeSchedule(rig.clock, change, 5.0)
    schedule.put("a", 1.0, 5.0)
    schedule.put("b", 1.0, 5.0)
    rig.clock.now += 1.0
    rig.clock.turn()
    assert {key for key, _ in rig.told} == {"a", "c"}


def test_what_comes_and_goes_leaves_nothing_behind(rig) -> None:
    rig.schedule.put("a", 3600.0, 5.0)
    for number in range(10_000):
        rig.schedule.put(str(number % 7), 3600.0, 5.0)
        rig.schedule.drop(str(number % 7))
    assert rig.schedule._kept < 100
    assert sum(map(len, rig.schedule._at.values())) == rig.schedule._kept
    assert repr(rig.schedule) == "<ProbeSchedule of 1, every 5 s>"


@given(
    interval=st.floats(0.5, 100.0),
    phases=st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=1, max_size=20),
    steps=st.lists(st.floats(0.001, 3.0), max_size=60),
    seed=st.integers(0, 1000),
)
def test_each_is_due_once_an_interval_and_never_once_it_is_dropped(interval, phases, steps, seed) -> None:
    """Whatever else comes and goes: in each interval of its own phase once, at most what is looked at together late."""
    rig, dice = Rig(interval), random.Random(seed)
    firsts = {f"stays {number}": phase * interval for number, phase in enumerate(phases)}
    for key, first in firsts.items():
        rig.schedule.put(key, first, interval)
    gone: dict[str, int] = {}  # how often it had been due when it was dropped
    for number, seconds in enumerate(steps):
        rig.schedule.put(f"goes {number}", dice.random() * interval, interval)
        rig.clock.run(seconds)
        key = f"goes {dice.randrange(number + 1)}"
        if key not in gone:
            rig.schedule.drop(key)
            gone[key] = len(rig.times(key))
    rig.clock.run(interval)
    end = rig.clock.now - 1000.0
    assert {key: len(rig.times(key)) for key in gone} == gone
    late = TOGETHER_SECS + 1e-6
    for key, first in firsts.items():
        for number, when in enumerate(rig.times(key)):
            assert -1e-6 <= when - (first + number * interval) <= late
        assert first + len(rig.times(key)) * interval > end - late
    assert rig.schedule.dues().keys() == firsts.keys() | ({f"goes {n}" for n in range(len(steps))} - gone.keys())
