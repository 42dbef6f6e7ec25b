"""``request_num`` and ``process_tokens``: the candidate with the least of a count."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from operator import attrgetter

from fd_router.scheduling.contract import Candidate, Environment, RequestView


def least(candidates: Sequence[Candidate], count: Callable[[Candidate], float], rng: random.Random) -> Candidate:
    """Return a candidate with the smallest ``count``; which one of several equal ones is random.

    Always the first of equals would send every request of a quiet fleet to one instance.
    """
    counts = list(map(count, candidates))
    smallest = min(counts)
    ties = counts.count(smallest)
    index = counts.index(smallest)
    if ties > 1:
        for _ in range(int(rng.random() * ties)):
            index = counts.index(smallest, index + 1)
    return candidates[index]


class RequestNumPolicy:
    """Fewest concurrent requests."""

    def __init__(self, environment: Environment) -> None:
        self._random = environment.random

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:  # noqa: ARG002
        """Return a candidate with the fewest running requests."""
        return least(candidates, _running, self._random)


class ProcessTokensPolicy:
    """Fewest prompt tokens being processed: characters × 2, counted from selection until the prefill is done."""

    def __init__(self, environment: Environment) -> None:
        self._random = environment.random

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:  # noqa: ARG002
        """Return a candidate with the fewest tokens; among equals, one with the fewest requests."""
        fewest = min(map(_tokens, candidates))
        equals = [candidate for candidate in candidates if candidate.tokens == fewest]
        return equals[0] if len(equals) == 1 else least(equals, _running, self._random)


_running: Callable[[Candidate], int] = attrgetter("running")
_tokens: Callable[[Candidate], int] = attrgetter("tokens")
