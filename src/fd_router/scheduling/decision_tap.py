"""The decision tap: lets somebody look at the choices of running schedulers; gone while nobody does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from weakref import WeakSet

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.explanation import Explanation
from fd_router.scheduling.policy import Policy, PolicyDecorator
from fd_router.scheduling.request_view import RequestView


class DecisionObserver(Protocol):
    """Who looks at decisions."""

    wanted: int
    """Decisions that it still wants to see; the others are only counted …"""
    unseen: int
    """… here."""

    def on_decision(self, role: str, request: RequestView, explanation: Explanation, chosen: Candidate) -> None:
        """See one: what its policy made of the candidates, and which it took."""


class Tappable(Protocol):
    """A scheduler whose choices can be looked at."""

    def tap(self, observer: DecisionObserver | None) -> None:
        """Show them to ``observer`` from now on, None: to nobody."""


class ObservedPolicy(PolicyDecorator):
    """Chooses as ``policy`` does, and shows ``observer`` those choices that it wants to see."""

    def __init__(self, policy: Policy, role: str, observer: DecisionObserver) -> None:
        super().__init__(policy)
        self._choose = policy.choose
        self._role = role
        self._observer = observer

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        """Choose, explaining it before when somebody wants to know."""
        observer, choose = self._observer, self._choose
        if observer.wanted <= 0:
            observer.unseen += 1
            return choose(request, candidates)
        explanation = self._policy.explain(request, candidates)
        chosen = choose(request, candidates)
        observer.on_decision(self._role, request, explanation, chosen)
        return chosen


def observed(policy: Policy, role: str, observer: DecisionObserver | None) -> Policy:
    """Return ``policy`` with ``observer`` looking on, or without anybody."""
    return policy if observer is None else ObservedPolicy(policy, role, observer)


class DecisionTap:
    """All schedulers of a router; one that is made while somebody looks is looked at too."""

    def __init__(self) -> None:
        self._schedulers: WeakSet[Tappable] = WeakSet()  # those of models come and go
        self._observer: DecisionObserver | None = None

    def add(self, scheduler: Tappable) -> None:
        """Know one more."""
        self._schedulers.add(scheduler)
        if self._observer is not None:
            scheduler.tap(self._observer)

    def show(self, observer: DecisionObserver | None) -> None:
        """Show the decisions of all to ``observer`` from now on, None: to nobody."""
        self._observer = observer
        for scheduler in self._schedulers:
            scheduler.tap(observer)

    def __repr__(self) -> str:
        return f"<DecisionTap of {len(self._schedulers)} schedulers, {'shown' if self._observer else 'closed'}>"
