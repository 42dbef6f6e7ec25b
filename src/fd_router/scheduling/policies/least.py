"""``request_num`` and ``process_tokens``: the candidate with the least of a count."""

from __future__ import annotations

from collections.abc import Sequence

from fd_router.scheduling.contract import Candidate, Environment, RequestView
from fd_router.scheduling.loads import Loads, lowest_places, running


class LeastLoadPolicy:
    """Lowest load; which one of several equal ones is random."""

    def __init__(self, environment: Environment, loads: Loads) -> None:
        self._random = environment.random
        self._loads = loads

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:  # noqa: ARG002
        """Return a candidate with the lowest load."""
        if len(candidates) == 1:
            return candidates[0]
        loads = self._loads(candidates)
        low = min(loads) if isinstance(loads, list) else loads.min()  # type: ignore[attr-defined]  # an array
        places = lowest_places(loads, low, self._random)
        return candidates[places[int(self._random.random() * len(places))]]


class RequestNumPolicy(LeastLoadPolicy):
    """``request_num``: fewest concurrent requests (section 4 of FastDeploy's router protocol)."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment, running)


class ProcessTokensPolicy:
    """``process_tokens``: fewest prompt tokens being processed (section 4 of FastDeploy's router protocol).

    Characters × 2, counted from selection until the prefill is done; among equals, fewest requests.
    """

    def __init__(self, environment: Environment) -> None:
        self._random = environment.random

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:  # noqa: ARG002
        """Return a candidate with the fewest tokens; among equals, one with the fewest requests."""
        if len(candidates) == 1:
            return candidates[0]
        tokens = [candidate.tokens for candidate in candidates]
        places = lowest_places(tokens, 0 if 0 in tokens else min(tokens), self._random)
        if len(places) == 1:
            return candidates[places[0]]
        counts = [candidates[place].running for place in places]
        fewest = min(counts)
        best = [place for place, count in zip(places, counts, strict=True) if count == fewest]
        return candidates[best[int(self._random.random() * len(best))]]
