"""``power_of_two``: two at random, the one with fewer concurrent requests."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.explanation import Explanation, Standing
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.request_view import RequestView


class PowerOfTwoPolicy(Policy):
    """The power of two choices (Mitzenmacher, 2001): nearly as even as looking at all, at the cost of two looks."""

    def __init__(self, environment: Environment) -> None:
        self._random = environment.random

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:  # noqa: ARG002
        """Return the less busy of two different candidates; the first drawn when they are equal."""
        count = len(candidates)
        if count == 1:
            return candidates[0]
        draw = self._random.random
        first, step = divmod(floor(draw() * count * (count - 1)), count - 1)  # one draw for both
        second = (first + 1 + step) % count
        one, other = candidates[first], candidates[second]
        return other if other.running < one.running else one

    def explain(self, request: RequestView, candidates: Sequence[Candidate]) -> Explanation:  # noqa: ARG002
        """Explain that any but the busiest of all may be chosen."""
        counts = [candidate.running for candidate in candidates]
        high = max(counts)
        is_alone = len(counts) > 1 and counts.count(high) == 1
        best = [place for place, count in enumerate(counts) if not (is_alone and count == high)]
        standings = [Standing(candidate, load=candidate.running, score=candidate.running) for candidate in candidates]
        return Explanation("the one with fewer running requests of two drawn at random", standings, best)
