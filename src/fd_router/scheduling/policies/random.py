"""``random``: one at random."""

from __future__ import annotations

from collections.abc import Sequence

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.explanation import Explanation, by_chance
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.request_view import RequestView


class RandomPolicy(Policy):
    """Every candidate is equally likely."""

    def __init__(self, environment: Environment) -> None:
        self._random = environment.random

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:  # noqa: ARG002
        """Return any of the candidates."""
        return candidates[int(self._random.random() * len(candidates))]

    def explain(self, request: RequestView, candidates: Sequence[Candidate]) -> Explanation:  # noqa: ARG002
        """Explain that any of the candidates may be chosen."""
        return by_chance(candidates, f"any of {len(candidates)} candidates, at random")
