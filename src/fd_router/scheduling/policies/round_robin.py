"""``round_robin``: in turn, in the order of the sorted URLs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.explanation import Explanation, Standing
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.request_view import RequestView

_url = attrgetter("url")


class RoundRobinPolicy(Policy):
    """The candidate after the one chosen last, then from the start again.

    The turn is kept as a URL, not as a number: an instance that leaves or comes back doesn't make another
    one lose its turn.
    """

    def __init__(self, environment: Environment) -> None:  # noqa: ARG002
        self._last = ""

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:  # noqa: ARG002
        """Return the next candidate in the order of URLs (in which they come)."""
        chosen = candidates[self._turn(candidates)]
        self._last = chosen.url
        return chosen

    def explain(self, request: RequestView, candidates: Sequence[Candidate]) -> Explanation:  # noqa: ARG002
        """Explain whose turn it is."""
        reason = f"next in turn after {self._last}" if self._last else "the first in turn"
        return Explanation(reason, [Standing(candidate) for candidate in candidates], [self._turn(candidates)])

    def _turn(self, candidates: Sequence[Candidate]) -> int:
        turn = bisect_right(candidates, self._last, key=_url)
        return turn if turn < len(candidates) else 0
