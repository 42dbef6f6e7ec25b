"""A handful of random schedules of faults; ``make chaos-random`` plays hundreds."""

import pytest
import uvloop

from tests.support.random_faults import Schedule, play

pytestmark = pytest.mark.unmeasured  # all of it is covered elsewhere; here it would only take time

SEEDS = (1, 3, 8, 11, 13)


def test_nothing_is_left_behind() -> None:
    play(Schedule(0), uvloop.run)  # what is opened once for all is open then
    for seed in SEEDS:
        wrongs, _ = play(Schedule(seed), uvloop.run)
        assert wrongs == [], str(Schedule(seed))


def test_a_seed_draws_the_same_schedule_each_time() -> None:
    assert str(Schedule(7)) == str(Schedule(7)) != str(Schedule(8))
