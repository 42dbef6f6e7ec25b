from __future__ import annotations

import pytest

from fd_router.admission.drain_rate import LEAST, MOST, DrainRate


def served(seconds: float, rate: float, start: float = 100.0) -> DrainRate:
    drain = DrainRate()
    drain.begin(start)
    for number in range(int(seconds * rate)):
        drain.count(start + (number + 1) / rate)
    return drain


@pytest.mark.parametrize("rate", [0.5, 2.0, 50.0, 1000.0])
@pytest.mark.parametrize("seconds", [4.0, 60.0])
def test_turns_at_a_steady_rate(rate: float, seconds: float) -> None:
    turns = max(1, round(10 * rate))
    assert abs(served(seconds, rate).seconds_for(turns) - 10) <= 2


def test_what_is_told_is_bounded() -> None:
    assert DrainRate().seconds_for(1000) == LEAST
    assert served(10.0, 100.0).seconds_for(1) == LEAST
    assert served(10.0, 1.0).seconds_for(10**6) == MOST
    stuck = DrainRate()
    stuck.begin(0.0)
    stuck.pause(20.0)
    assert stuck.seconds_for(1) == MOST


def test_time_in_which_nothing_waits_does_not_count() -> None:
    drain = served(10.0, 10.0)
    drain.pause(110.0)
    drain.begin(5000.0)
    assert 9 <= drain.seconds_for(100) <= 11


def test_what_is_new_counts_more() -> None:
    drain = served(30.0, 1.0)
    for number in range(300):
        drain.count(130.0 + (number + 1) / 10)
    assert drain.seconds_for(100) < 15


def test_a_clock_that_goes_back_does_no_harm() -> None:
    drain = served(5.0, 10.0)
    drain.count(0.0)
    assert LEAST <= drain.seconds_for(10) <= MOST
