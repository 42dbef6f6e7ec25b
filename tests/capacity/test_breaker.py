"""The breaker alone: what trips it, and where each signal leads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.capacity.breaker import RULES, Breaker, Circuit, Signal, TripLimits

CLOSED, OPEN, HALF_OPEN = Circuit.CLOSED, Circuit.OPEN, Circuit.HALF_OPEN

EXPECTED = {
    Signal.TRIPPED: (OPEN, OPEN, OPEN),
    Signal.WAITED: (CLOSED, HALF_OPEN, HALF_OPEN),
    Signal.SUCCEEDED: (CLOSED, OPEN, CLOSED),
    Signal.FAILED: (CLOSED, OPEN, OPEN),
    Signal.REFUSED: (OPEN, OPEN, OPEN),
    Signal.NEEDED: (CLOSED, CLOSED, CLOSED),
    Signal.RESTARTED: (CLOSED, CLOSED, CLOSED),
}
"""signal → where it leads from closed, open, half-open."""


class Watched:
    """A breaker whose signals are kept, and followed as its owner would."""

    def __init__(self, **limits: float) -> None:
        self.signals: list[tuple[Signal, str]] = []
        self.breaker = Breaker(TripLimits(**limits), self.on_signal)  # type: ignore[arg-type]

    def on_signal(self, signal: Signal, why: str) -> None:
        self.signals.append((signal, why))
        self.breaker.move(signal)


@pytest.mark.parametrize("signal", Signal)
@pytest.mark.parametrize(("place", "circuit"), [(0, CLOSED), (1, OPEN), (2, HALF_OPEN)])
def test_every_signal_leads_somewhere_from_everywhere(signal: Signal, place: int, circuit: Circuit) -> None:
    assert RULES[circuit, signal] is EXPECTED[signal][place]
    watched = Watched()
    watched.breaker.circuit = circuit
    assert watched.breaker.move(signal) is (EXPECTED[signal][place] is not circuit)
    assert watched.breaker.circuit is EXPECTED[signal][place]


def test_failures_in_a_row_trip_it() -> None:
    watched = Watched(in_a_row=3, share=0)
    watched.breaker.failed("reset")
    watched.breaker.failed("reset")
    assert watched.breaker.circuit is CLOSED
    watched.breaker.answered(503)
    assert watched.breaker.circuit is OPEN
    assert watched.signals[-1] == (Signal.TRIPPED, "3 failures in a row, the last one: status 503")


def test_a_success_breaks_the_row() -> None:
    watched = Watched(in_a_row=2, share=0)
    for _ in range(9):
        watched.breaker.failed("reset")
        watched.breaker.answered(200)
    assert watched.breaker.circuit is CLOSED


@pytest.mark.parametrize("status", [400, 404, 422, 429, 499])
def test_what_is_about_the_request_counts_for_nothing(status: int) -> None:
    watched = Watched(in_a_row=2, share=0.1, min_requests=1)
    watched.breaker.failed("reset", begun=True)
    before = (watched.breaker.requests, watched.breaker.failures, watched.breaker.in_a_row)
    for _ in range(50):
        watched.breaker.answered(status)
    assert (watched.breaker.requests, watched.breaker.failures, watched.breaker.in_a_row) == before


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
def test_every_5xx_is_the_instances_failure(status: int) -> None:
    watched = Watched(in_a_row=1)
    watched.breaker.answered(status)
    assert watched.breaker.circuit is OPEN


def test_a_share_of_failures_trips_it_once_there_are_enough_requests() -> None:
    watched = Watched(in_a_row=0, share=0.5, min_requests=10)
    for _ in range(4):
        watched.breaker.answered(200)
        watched.breaker.failed("cut_off")
    assert watched.breaker.circuit is CLOSED
    watched.breaker.answered(200)
    watched.breaker.failed("cut_off")
    assert watched.breaker.circuit is OPEN
    assert watched.signals[-1][1] == "5 of 10 requests failed within 10 s, the last one: cut_off"


def test_streams_that_break_after_they_began_are_failures_of_one_request_each() -> None:
    watched = Watched(in_a_row=0, share=0.9, min_requests=10)
    for _ in range(10):
        watched.breaker.answered(200)
        assert watched.breaker.circuit is CLOSED
        watched.breaker.failed("cut_off", begun=True)
    assert watched.signals[-1][1].startswith("10 of 10 requests failed")


def test_the_window_slides() -> None:
    watched = Watched(in_a_row=0, share=0.5, min_requests=10)
    for _ in range(4):
        watched.breaker.failed("reset")
    watched.breaker.rotate()
    for _ in range(4):
        watched.breaker.answered(200)
    watched.breaker.rotate()  # the failures are out of it now
    for _ in range(9):
        watched.breaker.answered(200)
    watched.breaker.failed("reset")
    assert watched.breaker.circuit is CLOSED


def test_one_trial_decides() -> None:
    watched = Watched(in_a_row=5)
    watched.breaker.circuit = HALF_OPEN
    watched.breaker.failed("reset")
    assert watched.breaker.circuit is OPEN
    watched.breaker.answered(200)
    assert watched.breaker.circuit is OPEN, "an answer to what was sent before"
    watched.breaker.move(Signal.WAITED)
    watched.breaker.answered(404)
    assert watched.breaker.circuit is HALF_OPEN
    watched.breaker.answered(200)
    assert watched.breaker.circuit is CLOSED


@pytest.mark.parametrize("status", [401, 403, 404])
def test_one_that_refuses_everybody_signals_it(status: int) -> None:
    watched = Watched()
    for client in ("a", "a", "b"):
        watched.breaker.refused(status, client)
    watched.breaker.rotate()
    assert watched.signals == []
    watched.breaker.refused(status, "c")
    assert watched.signals == [(Signal.REFUSED, f"it answered status {status} to all 4 requests within 10 s")]


@pytest.mark.parametrize(
    "other",
    [
        lambda breaker: breaker.answered(200),
        lambda breaker: breaker.failed("reset"),
        lambda breaker: breaker.refused(400, "z"),
    ],
)
@pytest.mark.parametrize("rotations", [0, 1])
def test_not_one_that_answers_something_else_too(other: Any, rotations: int) -> None:
    watched = Watched()
    other(watched.breaker)
    for _ in range(rotations):
        watched.breaker.rotate()
    for client in "abcdef":
        watched.breaker.refused(404, client)
    assert [signal for signal, _ in watched.signals if signal is Signal.REFUSED] == []
    watched.breaker.rotate()
    watched.breaker.rotate()
    for client in "abc":
        watched.breaker.refused(404, client)
    assert watched.signals[-1][0] is Signal.REFUSED, "that was long ago"


def test_a_trial_that_is_refused_decides_only_where_that_was_the_reason() -> None:
    watched = Watched(in_a_row=1)
    for client in "abc":
        watched.breaker.refused(401, client)
    watched.breaker.move(Signal.WAITED)
    watched.breaker.refused(422, "d")
    assert watched.breaker.circuit is HALF_OPEN
    watched.breaker.refused(401, "d")
    assert watched.breaker.circuit is OPEN
    watched.breaker.move(Signal.WAITED)
    watched.breaker.answered(200)
    assert watched.breaker.circuit is CLOSED
    watched.breaker.failed("reset")
    watched.breaker.move(Signal.WAITED)
    watched.breaker.refused(401, "d")
    assert watched.breaker.circuit is HALF_OPEN


def test_what_it_shows() -> None:
    watched = Watched()
    watched.breaker.failed("reset")
    assert repr(watched.breaker) == "<Breaker closed, 1 of 1 failed, 1 in a row>"


@given(
    st.lists(st.sampled_from(("good", "bad", "broken", "4xx", "half a window")), max_size=80),
    st.integers(0, 6), st.sampled_from((0.0, 0.3, 0.5, 1.0)), st.integers(1, 12),
)  # fmt: skip
def test_it_trips_exactly_when_counting_by_hand_says_so(
    steps: list[str], in_a_row: int, share: float, min_requests: int
) -> None:
    watched = Watched(in_a_row=in_a_row, share=share, min_requests=min_requests)
    halves: list[list[str]] = [[], []]
    row = 0
    for step in steps:
        if step == "half a window":
            watched.breaker.rotate()
            halves = [halves[1], []]
            continue
        if step == "good":
            watched.breaker.answered(200)
            row = 0
        elif step == "4xx":
            watched.breaker.answered(429)
            continue
        else:
            watched.breaker.failed("x", begun=step == "broken")
            row += 1
        halves[1].append(step)
        seen = halves[0] + halves[1]
        requests = sum(each in ("good", "bad") for each in seen)
        failures = sum(each in ("bad", "broken") for each in seen)
        too_many = 0 < in_a_row <= row or (share > 0 and requests >= min_requests and failures >= share * requests)
        if step != "good" and too_many:
            assert watched.breaker.circuit is OPEN
            return
        assert watched.breaker.circuit is CLOSED
