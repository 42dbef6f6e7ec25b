"""The decision tap: choices are shown while somebody looks, and are the same ones."""

from __future__ import annotations

import random
from typing import Any

from fd_router.scheduling.decision_tap import DecisionTap, ObservedPolicy
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.pairs import PairScheduler, Side
from fd_router.scheduling.policies.least import RequestNumPolicy
from fd_router.scheduling.scheduler import Scheduler
from tests.support.scheduling_fakes import AskedGroup, FakeCandidate, FakeRequest


class Observer:
    def __init__(self, wanted: int = 10) -> None:
        self.wanted = wanted
        self.unseen = 0
        self.seen: list[tuple[str, str]] = []

    def on_decision(self, role: str, request: Any, explanation: Any, chosen: Any) -> None:
        self.wanted -= 1
        self.seen.append((role, chosen.url))


def policy() -> RequestNumPolicy:
    return RequestNumPolicy(Environment(lambda: 0.0, random.Random(1)))


def side(*candidates: FakeCandidate) -> Side[Any]:
    return Side(AskedGroup(lambda: candidates), policy())


def scheduler() -> Scheduler[Any]:
    candidates = [FakeCandidate(1, running=9), FakeCandidate(2)]
    return Scheduler(AskedGroup(lambda: candidates), policy(), str)


def test_decisions_are_shown_while_somebody_looks() -> None:
    tap, observer, before = DecisionTap(), Observer(), scheduler()
    plain = before._policy
    tap.add(before)
    before.select(FakeRequest())
    tap.show(observer)
    assert isinstance(before._policy, ObservedPolicy)
    later = scheduler()  # of a model that appears meanwhile
    tap.add(later)
    assert before.select(FakeRequest()).instance.key == later.select(FakeRequest()).instance.key == "10.0.0.2:8000"
    assert observer.seen == [("mixed", "http://10.0.0.2:8000")] * 2
    tap.show(None)
    before.select(FakeRequest())
    assert len(observer.seen) == 2
    assert before._policy is plain  # nothing is left in the way


def test_more_than_are_wanted_are_counted_only() -> None:
    tap, observer, one = DecisionTap(), Observer(wanted=2), scheduler()
    tap.add(one)
    tap.show(observer)
    for _ in range(5):
        one.select(FakeRequest())
    assert (len(observer.seen), observer.unseen) == (2, 3)


def test_both_sides_of_a_pair_are_shown() -> None:
    prefill, decode = (side(FakeCandidate(number)) for number in (1, 2))
    pairs = PairScheduler[Any](prefill, decode, lambda *_: True)
    tap, observer = DecisionTap(), Observer()
    tap.add(pairs)
    tap.show(observer)
    pairs.select(FakeRequest())
    assert observer.seen == [("prefill", "http://10.0.0.1:8000"), ("decode", "http://10.0.0.2:8000")]
    tap.show(None)
    pairs.select(FakeRequest())
    assert len(observer.seen) == 2


def test_a_scheduler_that_is_gone_is_forgotten() -> None:
    tap = DecisionTap()
    tap.add(scheduler())
    assert repr(tap) == "<DecisionTap of 0 schedulers, closed>"
