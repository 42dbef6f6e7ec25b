"""``round_robin``: in turn, in the order of the sorted URLs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter

from fd_router.scheduling.contract import Candidate, Environment, RequestView

_url = attrgetter("url")


class RoundRobinPolicy:
    """The candidate after the one chosen last, then from the start again.

    The turn is kept as a URL, not as a number: an instance that leaves or comes back doesn't make another
    one lose its turn.
    """

    def __init__(self, environment: Environment) -> None:  # noqa: ARG002
        self._last = ""

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:  # noqa: ARG002
        """Return the next candidate in the order of URLs (in which they come)."""
        turn = bisect_right(candidates, self._last, key=_url)
        chosen = candidates[turn if turn < len(candidates) else 0]
        self._last = chosen.url
        return chosen
