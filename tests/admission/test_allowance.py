from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.admission.allowance import Allowance, Bucket
from fd_router.admission.keys import ApiKey
from fd_router.errors import LimitError


def allowance(**limits: int) -> Allowance:
    return Allowance(ApiKey(name="a", sha256="0" * 64, **limits), 0.0)


def refusal(held: Allowance, tokens: int, now: float) -> LimitError:
    with pytest.raises(LimitError) as caught:
        held.take(tokens, now)
    return caught.value


def test_no_limits() -> None:
    held = allowance()
    for _ in range(1000):
        held.take(10**9, 0.0)
    assert (held.running, held.requests, held.left()) == (1000, 1000, ())


def test_requests_at_once() -> None:
    held = allowance(max_concurrent=2)
    held.take(1, 0.0)
    held.take(1, 0.0)
    error = refusal(held, 1, 0.0)
    assert (error.status, error.type, error.code) == (429, "requests", "rate_limit_exceeded")
    assert error.headers == (("retry-after", "1"),)
    assert error.message == ("Rate limit reached for the API key 'a': 2 requests at once. Please try again in 1 s.")
    held.give_back()
    held.take(1, 0.0)


def test_requests_a_minute() -> None:
    held = allowance(requests_per_minute=30)
    for _ in range(30):
        held.take(1, 0.0)
    assert refusal(held, 1, 0.0).headers == (("retry-after", "2"),)
    assert held.left() == (("requests", 30, 0),)
    held.take(1, 2.0)
    refusal(held, 1, 2.0)


def test_tokens_a_minute() -> None:
    held = allowance(tokens_per_minute=600)
    held.take(500, 0.0)
    error = refusal(held, 200, 0.0)
    assert (error.type, error.headers) == ("tokens", (("retry-after", "10"),))
    held.take(200, 10.0)


def test_a_prompt_of_more_tokens_than_a_minute_has_needs_a_whole_minute() -> None:
    held = allowance(tokens_per_minute=60)
    held.take(1000, 0.0)
    assert refusal(held, 1, 0.0).headers == (("retry-after", "941"),)
    assert held.left() == (("tokens", 60, 0),)


def test_usage_corrects_the_estimate() -> None:
    held = allowance(tokens_per_minute=100)
    held.take(10, 0.0)
    held.correct(50)
    assert held.left() == (("tokens", 100, 40),)
    held.correct(-20)
    assert (held.left(), held.tokens) == ((("tokens", 100, 60),), 40)


def test_a_refused_request_counts_nothing() -> None:
    held = allowance(requests_per_minute=5, tokens_per_minute=10)
    held.take(10, 0.0)
    refusal(held, 10, 0.0)
    assert held.left() == (("requests", 5, 4), ("tokens", 10, 0))
    assert held.running == 1


def test_other_limits_come_into_force_with_what_was_used() -> None:
    held = allowance(requests_per_minute=10)
    for _ in range(8):
        held.take(1, 0.0)
    held.change(ApiKey(name="a", sha256="0" * 64, requests_per_minute=9), 0.0)
    assert held.left() == (("requests", 9, 1),)
    held.change(ApiKey(name="a", sha256="0" * 64), 0.0)
    for _ in range(100):
        held.take(1, 0.0)
    held.change(ApiKey(name="a", sha256="0" * 64, requests_per_minute=10), 60.0)
    assert held.running == 108
    assert held.left() == (("requests", 10, 10),)  # what was used without a limit is nobody's debt


def test_a_much_lower_limit_locks_nobody_out() -> None:
    held = allowance(requests_per_minute=1000)
    for _ in range(900):
        held.take(1, 0.0)
    held.change(ApiKey(name="a", sha256="0" * 64, requests_per_minute=10), 0.0)
    assert held.left() == (("requests", 10, 1),)


@given(st.integers(1, 1000), st.lists(st.tuples(st.floats(0, 30), st.integers(1, 50)), max_size=60))
def test_never_more_than_a_minutes_worth_and_what_has_come_since(
    per_minute: int, asks: list[tuple[float, int]]
) -> None:
    bucket = Bucket(per_minute, 0.0)
    now = taken = 0.0
    for pause, amount in asks:
        now += pause
        bucket.fill(now)
        if bucket.seconds_until(amount) == 0:
            bucket.level -= amount
            taken += amount
        else:
            later = now + bucket.seconds_until(amount)
            assert later > now
        assert bucket.level <= per_minute
        most = per_minute + now * per_minute / 60 + max(0, 50 - per_minute)
        assert taken <= most + 1e-6
