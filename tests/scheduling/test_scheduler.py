from __future__ import annotations

import pytest

from fd_router.errors import NoInstanceError
from fd_router.scheduling.contract import Decision
from fd_router.scheduling.policies import make_policy
from fd_router.scheduling.scheduler import Scheduler
from tests.scheduling.fakes import FakeCandidate, FakeRequest, fleet, make_environment


def make_scheduler(candidates: list[FakeCandidate], policy: str = "request_num") -> Scheduler[FakeCandidate]:
    return Scheduler(lambda: candidates, make_policy(policy, make_environment()), lambda: "none has registered")


def test_what_is_chosen_is_counted_at_once() -> None:
    candidates = fleet(0, 0, 0)
    scheduler = make_scheduler(candidates)
    for _ in range(9):
        scheduler.select(FakeRequest("abc"))
    assert [(candidate.running, candidate.tokens) for candidate in candidates] == [(3, 18)] * 3


def test_those_tried_are_left_out_as_long_as_another_is_left() -> None:
    one, two, three = candidates = fleet(0, 5, 9)
    scheduler = make_scheduler(candidates)
    assert scheduler.select(FakeRequest(), {one.key}).instance is two
    assert scheduler.select(FakeRequest(), (one.key, two.key)).instance is three
    assert scheduler.select(FakeRequest(), [one.key, two.key, three.key]).instance is one
    assert scheduler.select(FakeRequest(), {"10.0.0.77:1"}).instance is one


def test_nothing_to_choose_from() -> None:
    with pytest.raises(NoInstanceError, match="Failed to select worker: none has registered") as raised:
        make_scheduler([]).select(FakeRequest(), {"10.0.0.1:8000"})
    assert (raised.value.status, raised.value.code) == (502, "no_instance")


def test_only_those_available_now_are_candidates() -> None:
    candidates = fleet(5, 0)
    scheduler = make_scheduler(candidates)
    candidates.pop()
    assert scheduler.select(FakeRequest()).instance is candidates[0]


class TestDecision:
    def test_both_parts_are_given_back_once(self) -> None:
        candidate = FakeCandidate(1)
        decision = Decision(candidate, 10)
        assert (candidate.running, candidate.tokens) == (1, 10)
        assert repr(decision) == "<Decision http://10.0.0.1:8000 tokens=10 held>"
        assert [decision.prefill_done(), decision.prefill_done()] == [True, False]
        assert (candidate.running, candidate.tokens) == (1, 0)
        assert [decision.release(), decision.release()] == [True, False]
        assert (candidate.running, candidate.tokens) == (0, 0)
        assert repr(decision) == "<Decision http://10.0.0.1:8000 tokens=10 given back>"

    def test_no_tokens_are_none_to_give_back(self) -> None:
        assert not Decision(FakeCandidate(1), 0).prefill_done()

    def test_the_order_does_not_matter(self) -> None:
        candidate = FakeCandidate(1)
        decision = Decision(candidate, 10)
        assert decision.release()
        assert decision.prefill_done()
        assert (candidate.running, candidate.tokens) == (0, 0)
