"""Plug-ins that do not derive from ``Policy``: with ``choose`` only, or with hooks by the first contract's names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fd_router.scheduling import contract
from fd_router.scheduling.plugins.adapter import AdaptedPolicy, adapt
from fd_router.scheduling.tracker import RequestTracker
from tests.support.scheduling_fakes import Diary, FakeRequest, LearningPolicy, fleet


class OnlyChooses:
    def choose(self, request: Any, candidates: Sequence[Any]) -> Any:
        return candidates[-1]


class OldTracker:
    """With ``waits``, and without the rest of a tracker but the end."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def waits(self, send: Callable[[], None]) -> bool:
        self.heard.append("waits")
        return True

    def on_end(self) -> None:
        self.heard.append("end")


class Old(OnlyChooses):
    def __init__(self) -> None:
        self.tracker = OldTracker()
        self.gone: list[str] = []

    def place(self, request: Any, candidate: Any) -> OldTracker:
        return self.tracker

    def on_gone(self, url: str) -> None:
        self.gone.append(url)

    def explain(self, request: Any, candidates: Sequence[Any]) -> contract.Explanation:
        return contract.Explanation("old", [contract.Standing(c) for c in candidates], [0])


def test_one_that_only_chooses() -> None:
    policy, candidates = adapt(OnlyChooses()), fleet(0, 0)
    assert policy.choose(FakeRequest(), candidates) is candidates[1]
    assert policy.on_dispatch(FakeRequest(), candidates[1]) is None
    policy.on_instance_unavailable("http://x")
    assert policy.explain(FakeRequest(), candidates).reason == "OnlyChooses doesn't explain its choices"
    assert repr(policy).startswith("<AdaptedPolicy <")


def test_hooks_by_their_old_names() -> None:
    old, candidates = Old(), fleet(0, 0)
    policy = adapt(old)
    tracker = policy.on_dispatch(FakeRequest(), candidates[0])
    assert tracker is not None
    assert tracker.hold(lambda: None)
    tracker.on_first_token()
    tracker.on_usage(2, 1)
    tracker.on_end()
    assert old.tracker.heard == ["waits", "end"]
    policy.on_instance_unavailable("http://x")
    assert old.gone == ["http://x"]
    assert policy.explain(FakeRequest(), candidates).reason == "old"


def test_a_duck_with_the_names_of_today() -> None:
    class Duck(OnlyChooses):
        def __init__(self) -> None:
            self.tracker, self.gone = Diary(), []  # type: ignore[var-annotated]

        def on_dispatch(self, request: Any, candidate: Any) -> RequestTracker:
            return self.tracker

        def on_instance_unavailable(self, url: str) -> None:
            self.gone.append(url)

    duck, (one,) = Duck(), fleet(0)
    policy = adapt(duck)
    assert policy.on_dispatch(FakeRequest(), one) is duck.tracker
    policy.on_instance_unavailable(one.url)
    assert duck.gone == [one.url]


def test_a_tracker_with_all_methods_hears_all() -> None:
    class Full(Old):
        def place(self, request: Any, candidate: Any) -> Any:
            return full

    class FullTracker(OldTracker):
        def on_first_token(self) -> None:
            self.heard.append("first")

        def on_usage(self, prompt_tokens: int, cached_tokens: int) -> None:
            self.heard.append((prompt_tokens, cached_tokens))

    full = FullTracker()
    tracker = adapt(Full()).on_dispatch(FakeRequest(), fleet(0)[0])
    assert tracker is not None
    tracker.on_first_token()
    tracker.on_usage(2, 1)
    assert full.heard == ["first", (2, 1)]


def test_a_policy_is_one_as_it_is() -> None:
    policy = LearningPolicy()
    assert adapt(policy) is policy


@pytest.mark.parametrize(
    "bases",
    [
        (contract.Policy,),
        (contract.Policy, contract.Learner, contract.Leavable, contract.Explaining),
        (contract.Learner, contract.Policy),
    ],
)
def test_one_that_derives_from_what_the_contract_named(bases: tuple[type, ...]) -> None:
    kind = type("Derived", (Old, *bases), {})
    policy = adapt(kind())
    assert isinstance(policy, AdaptedPolicy)
    policy.on_instance_unavailable("http://x")
    assert policy.plugin.gone == ["http://x"]
    assert policy.title == "Derived"


def test_trackers_that_derive_from_what_the_contract_named() -> None:
    assert type("Tracker", (OldTracker, contract.Patient), {})().waits(lambda: None)
