"""``power_of_two``: two at random, the one with fewer concurrent requests."""

from __future__ import annotations

from collections.abc import Sequence

from fd_router.scheduling.contract import Candidate, Environment, RequestView


class PowerOfTwoPolicy:
    """The power of two choices (Mitzenmacher, 2001): nearly as even as looking at all, at the cost of two looks."""

    def __init__(self, environment: Environment) -> None:
        self._random = environment.random

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:  # noqa: ARG002
        """Return the less busy of two different candidates; the first drawn when they are equal."""
        count = len(candidates)
        if count == 1:
            return candidates[0]
        draw = self._random.random
        first = int(draw() * count)
        second = (first + 1 + int(draw() * (count - 1))) % count
        one, other = candidates[first], candidates[second]
        return other if other.running < one.running else one
