"""A plug-in policy: long prompts to some of the instances, so that short ones never wait behind them.

A template. What a policy may see and return is in ``fd_router.scheduling.contract``; the router is told to use this
one by ``policy: "long_apart:LongApart"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from fd_router.scheduling.contract import Candidate, Environment, Explanation, RequestView, Standing


class LongApart:
    """The fewest requests, among the instances for long prompts or among the others.

    ``long_tokens``: prompts of so many estimated tokens are long; ``share``: of the instances, the last ones in the
    order of their URLs, that serve them. The parameters are the options: named, typed and bounded here, checked at
    the start of the router.
    """

    def __init__(
        self,
        environment: Environment,  # clock and random source; leave it out if you need neither
        *,
        long_tokens: int = 8000,
        share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5,
    ) -> None:
        self._random = environment.random
        self._long_tokens = long_tokens
        self._share = share

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        """Return one of ``candidates``: called for every request, so nothing here may wait or take long."""
        best = self._best(request, candidates)
        return candidates[best[int(self._random.random() * len(best))]]

    def explain(self, request: RequestView, candidates: Sequence[Candidate]) -> Explanation:
        """Say how ``choose`` would choose, for ``/v1/explain``. This may be left out."""
        what = "long" if request.tokens >= self._long_tokens else "short"
        standings = [Standing(candidate, load=candidate.running, score=candidate.running) for candidate in candidates]
        return Explanation(f"fewest requests for a {what} prompt", standings, self._best(request, candidates))

    def _best(self, request: RequestView, candidates: Sequence[Candidate]) -> list[int]:
        """Return the places of the best ones."""
        first_long = len(candidates) - round(self._share * len(candidates))
        everywhere = range(len(candidates))
        places = everywhere[first_long:] if request.tokens >= self._long_tokens else everywhere[:first_long]
        fewest = min(candidates[place].running for place in places or everywhere)
        return [place for place in places or everywhere if candidates[place].running == fewest]
