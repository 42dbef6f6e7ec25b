from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.scheduling.ttft.prefill_speed import PrefillSpeed
from fd_router.scheduling.ttft.token_ratio import TokenRatio


def test_the_prior_holds_until_there_is_something_else() -> None:
    fleet = PrefillSpeed(1000.0)
    own = PrefillSpeed(fleet)
    assert (own.tokens_per_sec, own.is_known) == (1000.0, False)
    for _ in range(200):
        fleet.observe(5000, 1.0)
    assert own.tokens_per_sec == pytest.approx(5000, rel=0.1)
    assert repr(fleet).startswith("<PrefillSpeed 49")


def test_short_prompts_count_less_than_long_ones() -> None:
    speed = PrefillSpeed(1000.0)
    for _ in range(100):
        speed.observe(10, 0.02)  # 500 tokens/s, as it takes its time to begin
        speed.observe(5000, 1.0)
    assert speed.tokens_per_sec == pytest.approx(5000, rel=0.1)


def test_first_tokens_that_come_together_tell_the_speed_together() -> None:
    speed = PrefillSpeed(1000.0)
    for _ in range(50):
        speed.observe(2000, 2.0)
        speed.observe(2000, 0.0)
    assert speed.tokens_per_sec == pytest.approx(2000, rel=0.1)


def test_a_change_is_noticed() -> None:
    speed = PrefillSpeed(1000.0)
    for _ in range(500):
        speed.observe(1000, 1.0)
    for _ in range(120):
        speed.observe(500, 1.0)
    assert speed.tokens_per_sec < 700


def test_what_was_cached_is_no_speed() -> None:
    speed = PrefillSpeed(1000.0)
    for _ in range(100):
        speed.observe(2000, 1.0)
        speed.correct(-1000)
    assert speed.tokens_per_sec == pytest.approx(1000, rel=0.1)


@given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(0, 1e5), st.floats(-1e7, 1e7))))
def test_it_stays_a_speed(samples: list[tuple[float, float, float]]) -> None:
    speed = PrefillSpeed(PrefillSpeed(1000.0))
    for tokens, secs, more in samples:
        speed.observe(tokens, secs)
        speed.correct(more)
        assert 0 < speed.tokens_per_sec < float("inf")


def test_tokens_per_character() -> None:
    ratio = TokenRatio()
    assert ratio.tokens_per_character == 0.25
    for _ in range(100):
        ratio.observe(10_000, 7_000)
    ratio.observe(0, 5)
    assert ratio.tokens_per_character == pytest.approx(0.7, rel=0.01)
    for _ in range(500):
        ratio.observe(10_000, 3_000)
    assert ratio.tokens_per_character == pytest.approx(0.3, rel=0.05)
    assert repr(ratio).startswith("<TokenRatio 0.30")
