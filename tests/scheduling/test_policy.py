"""The base class of policies, and what stands around one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.decision_header import DecisionHeaderPolicy
from fd_router.scheduling.explanation import Explanation, by_chance
from fd_router.scheduling.plugins.guard import PluginGuard
from fd_router.scheduling.policy import Policy, PolicyDecorator
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.scheduler import dispatch_hook
from fd_router.scheduling.timing import TimedPolicy
from fd_router.scheduling.tracker import RequestTracker
from tests.support.scheduling_fakes import Diary, FakeRequest, fleet, make_environment


class First(Policy):
    """Only what has to be written."""

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        return candidates[0]


class Whole(First):
    """Every hook, and what it heard."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.tracker = Diary()

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        self.heard.append(("choose", request))
        return candidates[0]

    def on_dispatch(self, request: RequestView, candidate: Candidate) -> RequestTracker:
        self.heard.append(("dispatch", request, candidate.url))
        return self.tracker

    def on_instance_unavailable(self, url: str) -> None:
        self.heard.append(("unavailable", url))

    def explain(self, request: RequestView, candidates: Sequence[Candidate]) -> Explanation:
        return by_chance(candidates, "whole")


class Durations:
    def __init__(self) -> None:
        self.counts = [0]
        self.sum = 0.0


def test_only_choose_has_to_be_written() -> None:
    policy, (one, other) = First(make_environment()), fleet(0, 0)
    assert policy.on_dispatch(FakeRequest(), one) is None
    policy.on_instance_unavailable(one.url)
    explanation = policy.explain(FakeRequest(), [one, other])
    assert (explanation.reason, list(explanation.best)) == ("First doesn't explain its choices", [0, 1])
    with pytest.raises(NotImplementedError):
        Policy(make_environment()).choose(FakeRequest(), [one])


def test_a_tracker_holds_nothing_unless_it_says_so() -> None:
    tracker = RequestTracker()
    assert not tracker.hold(lambda: None)
    tracker.on_first_token()
    tracker.on_usage(1, 0)
    tracker.on_end()


DECORATORS: dict[str, Callable[[Policy], PolicyDecorator]] = {
    "plain": PolicyDecorator,
    "timed": lambda policy: TimedPolicy(policy, Durations(), (), lambda: 0.0),
    "header": lambda policy: DecisionHeaderPolicy(policy, "mixed", "whole"),
    "guard": lambda policy: PluginGuard(policy, First(make_environment()), lambda *_: None),
}


@pytest.mark.parametrize("name", DECORATORS)
def test_a_decorator_forwards_every_hook(name: str) -> None:
    inner, request, candidates = Whole(), FakeRequest(), fleet(0, 0)
    policy = DECORATORS[name](inner)
    chosen = policy.choose(request, candidates)
    tracker = policy.on_dispatch(request, chosen)
    assert tracker is not None
    tracker.on_end()
    policy.on_instance_unavailable(chosen.url)
    assert inner.heard == [("choose", request), ("dispatch", request, chosen.url), ("unavailable", chosen.url)]
    assert inner.tracker.heard == ["end"]
    assert policy.explain(request, candidates).reason == "whole"
    assert policy.title == "Whole"


@pytest.mark.parametrize("name", ["plain", "timed", "header"])
def test_a_policy_that_notes_no_dispatch_is_not_told_of_any(name: str) -> None:
    decorate = DECORATORS[name]
    assert dispatch_hook(decorate(First(make_environment()))) is None
    hook = dispatch_hook(decorate(Whole()))
    assert hook is not None
    assert hook(FakeRequest(), fleet(0)[0]) is not None


def test_a_decorator_that_notes_dispatches_itself_is_told_of_them() -> None:
    class Noting(PolicyDecorator):
        def on_dispatch(self, request: RequestView, candidate: Candidate) -> RequestTracker | None:
            return Diary() if candidate.running == 0 else self._policy.on_dispatch(request, candidate)

    hook = dispatch_hook(PolicyDecorator(Noting(First(make_environment()))))
    assert hook is not None
    assert isinstance(hook(FakeRequest(), fleet(0)[0]), Diary)


def test_a_decorator_has_an_answer_for_all_that_a_policy_can_be_asked() -> None:
    """A hook that is added to the base class, and forgotten here, would be lost in every policy of the router."""
    hooks = {name for name, value in vars(Policy).items() if callable(value) or isinstance(value, property)}
    assert hooks - {"__init__", "Options"} <= vars(PolicyDecorator).keys()
