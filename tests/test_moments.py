from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fd_router.moments import ALMOST, until_next

apart = st.sampled_from([0.05, 0.1, 0.25, 0.5, 1.0])
times = st.floats(0.0, 1e7)


@given(apart, times)
def test_the_next_moment_is_about_as_far_away_at_most(seconds: float, now: float) -> None:
    delay = until_next(seconds, now)
    assert ALMOST * seconds - 1e-6 <= delay <= (1 + ALMOST) * seconds + 1e-6


@given(apart, st.integers(0, 10_000_000), st.floats(-1e-6, 1e-6))
def test_who_comes_at_a_moment_comes_again_at_the_next_one(seconds: float, number: int, error: float) -> None:
    now = number * seconds + error
    assert round(now + until_next(seconds, now), 4) == round((number + 1) * seconds, 4)


@given(st.sampled_from([0.1, 0.25, 0.5, 1.0]), times)
def test_moments_that_are_further_apart_are_among_the_others(seconds: float, now: float) -> None:
    moment = now + until_next(seconds, now)
    assert abs(moment - round(moment / 0.05) * 0.05) < 1e-6
