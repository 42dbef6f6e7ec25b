"""``random``: one at random."""

from __future__ import annotations

from collections.abc import Sequence

from fd_router.scheduling.contract import Candidate, Environment, RequestView


class RandomPolicy:
    """Every candidate is equally likely."""

    def __init__(self, environment: Environment) -> None:
        self._random = environment.random

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:  # noqa: ARG002
        """Return any of the candidates."""
        return candidates[int(self._random.random() * len(candidates))]
