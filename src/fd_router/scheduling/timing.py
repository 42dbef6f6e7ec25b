"""How long decisions take: a policy with a stop-watch."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Protocol

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.policy import Policy, PolicyDecorator
from fd_router.scheduling.request_view import RequestView


class Durations(Protocol):
    """A histogram of seconds: ``counts`` has one more than ``bounds``."""

    counts: list[int]
    sum: float


class TimedPolicy(PolicyDecorator):
    """Chooses as ``policy`` does, and notes how long that took, the first time and ``every`` so many times."""

    def __init__(
        self,
        policy: Policy,
        durations: Durations,
        bounds: Sequence[float],
        clock: Callable[[], float],
        *,
        every: int = 1,
    ) -> None:
        super().__init__(policy)
        self._choose = policy.choose
        self._durations = durations
        self._bounds = bounds
        self._clock = clock
        self._every = every
        self._untimed = 0  # choices until the next one that is timed

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        """Choose."""
        choose = self._choose
        if self._untimed:
            self._untimed -= 1
            return choose(request, candidates)
        self._untimed = self._every - 1
        clock, durations = self._clock, self._durations
        began = clock()
        chosen = choose(request, candidates)
        seconds = clock() - began
        durations.counts[bisect_left(self._bounds, seconds)] += 1
        durations.sum += seconds
        return chosen
