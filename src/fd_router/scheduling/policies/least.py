"""``request_num`` and ``process_tokens``: the candidate with the least of a count."""

from __future__ import annotations

from collections.abc import Sequence

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.explanation import Explanation, Standing, among, by_lowest
from fd_router.scheduling.loads import Loads, lowest, lowest_places
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.request_view import RequestView


class LeastLoadPolicy(Policy):
    """Lowest load; which one of several equal ones is random."""

    lowest = "fewest running requests"

    def __init__(self, environment: Environment, loads: Loads) -> None:
        self._random = environment.random
        self._loads = loads

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:  # noqa: ARG002
        """Return a candidate with the lowest load."""
        if len(candidates) == 1:
            return candidates[0]
        loads = self._loads(candidates)
        places = lowest_places(loads, lowest(loads), self._random)
        return candidates[places[int(self._random.random() * len(places))]]

    def explain(self, request: RequestView, candidates: Sequence[Candidate]) -> Explanation:  # noqa: ARG002
        """Explain that the lowest load wins."""
        return by_lowest(self.lowest, candidates, self._loads(candidates))


class RequestNumPolicy(LeastLoadPolicy):
    """``request_num``: fewest concurrent requests (section 4 of FastDeploy's router protocol)."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment, environment.load_table.running)


class ProcessTokensPolicy(Policy):
    """``process_tokens``: fewest prompt tokens being processed (section 4 of FastDeploy's router protocol).

    Characters × 2, counted from selection until the prefill is done; among equals, fewest requests.
    """

    def __init__(self, environment: Environment) -> None:
        self._random = environment.random
        self._tokens = environment.load_table.tokens

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:  # noqa: ARG002
        """Return a candidate with the fewest tokens; among equals, one with the fewest requests."""
        if len(candidates) == 1:
            return candidates[0]
        tokens = self._tokens(candidates)
        places = lowest_places(tokens, lowest(tokens), self._random)
        if len(places) == 1:
            return candidates[places[0]]
        counts = [candidates[place].running for place in places]
        fewest = min(counts)
        best = [place for place, count in zip(places, counts, strict=True) if count == fewest]
        return candidates[best[int(self._random.random() * len(best))]]

    def explain(self, request: RequestView, candidates: Sequence[Candidate]) -> Explanation:  # noqa: ARG002
        """Explain that the fewest tokens win, then the fewest requests."""
        fewest = min((candidate.tokens, candidate.running) for candidate in candidates)
        best = [place for place, c in enumerate(candidates) if (c.tokens, c.running) == fewest]
        tokens, count = fewest
        reason = f"fewest prompt tokens being processed: {tokens}, with {count} running requests"
        standings = [Standing(candidate, load=candidate.running, score=candidate.tokens) for candidate in candidates]
        return Explanation(reason + among(best, candidates), standings, best)
