"""Rules of other routers, re-stated as policies for `matrix.py` and `fd-router simulate`: rivals:LMetric and so on.

Each knows what such a router knows: the prefixes that it has sent, its own running requests, and the uncached prompt
tokens that it has sent and whose first token hasn't come.
"""

from __future__ import annotations

from collections.abc import Sequence

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.policy import Need, Policy
from fd_router.scheduling.prefix.block_hashes import BlockHasher
from fd_router.scheduling.prefix.index import Match
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.tracker import RequestTracker

CHARACTERS_PER_TOKEN = 4
BLOCK_CHARACTERS = 64


class _Rival(Policy):
    """Counts what a rule needs. ``cost`` gives what the lowest wins of."""

    needs = frozenset({Need.PREFIX_INDEX})

    def __init__(self, environment: Environment, options: object = None) -> None:
        super().__init__(environment, options)
        self._random = environment.random
        self._index = environment.index
        self._hasher = BlockHasher(BLOCK_CHARACTERS)
        self.pending: dict[str, float] = {}  # uncached tokens, by URL
        self.held: dict[str, float] = {}  # tokens of running requests, by URL
        self._own = 0.0

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        """Return a candidate with the lowest cost; any of equals."""
        tokens = max(1.0, len(request.prompt) / CHARACTERS_PER_TOKEN)
        match = self._index.match(self._hasher.of_text(request.prompt, request.cache_seed))
        cached = self._cached(match)
        for candidate in candidates:
            self.pending.setdefault(candidate.url, 0.0)
            self.held.setdefault(candidate.url, 0.0)
        hits = [min(cached.get(candidate.url, 0.0), tokens - 1) for candidate in candidates]
        place = self.pick(tokens, hits, candidates)
        self._own = tokens - hits[place]
        self._index.insert(match, candidates[place].url)
        return candidates[place]

    def pick(self, tokens: float, hits: Sequence[float], candidates: Sequence[Candidate]) -> int:
        """Return the place of the chosen one."""
        costs = [self.cost(tokens, hit, each) for hit, each in zip(hits, candidates, strict=True)]
        return self.lowest(costs)

    def cost(self, tokens: float, hit: float, candidate: Candidate) -> float:
        """Return a candidate's cost."""
        raise NotImplementedError

    def lowest(self, costs: Sequence[float]) -> int:
        """Return the place of the lowest cost."""
        least = min(costs)
        best = [place for place, cost in enumerate(costs) if cost == least]
        return best[int(self._random.random() * len(best))]

    def on_dispatch(self, request: RequestView, candidate: Candidate) -> _Sent:
        """Count the request."""
        return _Sent(self, candidate.url, self._own, len(request.prompt) / CHARACTERS_PER_TOKEN)

    def _cached(self, match: Match) -> dict[str, float]:
        names = {self._index.id_of(url): url for url in self.pending}
        cached: dict[str, float] = {}
        for group in match.groups():
            for holder in group.holders:
                if holder in names:
                    cached.setdefault(names[holder], group.depth * BLOCK_CHARACTERS / CHARACTERS_PER_TOKEN)
        return cached


class _Sent(RequestTracker):
    """A request that was sent."""

    def __init__(self, rival: _Rival, url: str, own: float, tokens: float) -> None:
        self._rival, self._url, self._own, self._tokens = rival, url, own, tokens
        rival.pending[url] += own
        rival.held[url] += tokens

    def on_first_token(self) -> None:
        """Its prefill is done."""
        self._rival.pending[self._url] -= self._own
        self._own = 0.0

    def on_end(self) -> None:
        """It is over."""
        self.on_first_token()
        self._rival.held[self._url] -= self._tokens


class LMetric(_Rival):
    """(pending uncached prompt tokens + own uncached) × (running + 1)."""

    def cost(self, tokens: float, hit: float, candidate: Candidate) -> float:
        """See the class."""
        return (self.pending[candidate.url] + tokens - hit) * (candidate.running + 1)


class LeastPendingPlusOwn(_Rival):
    """Pending uncached prompt tokens + own uncached; of equals the one with the fewest requests."""

    def pick(self, tokens: float, hits: Sequence[float], candidates: Sequence[Candidate]) -> int:
        """See the class."""
        costs = [self.pending[each.url] + tokens - hit for hit, each in zip(hits, candidates, strict=True)]
        least = min(costs)
        return self.lowest(
            [each.running if cost == least else float("inf") for cost, each in zip(costs, candidates, strict=True)]
        )


class StickyUntilSaturated(LeastPendingPlusOwn):
    """One that holds 80 % of the prompt, unless too much is pending there; else least pending plus own (llm-d)."""

    HOLDS = 0.8
    BOUND = 81_920

    def pick(self, tokens: float, hits: Sequence[float], candidates: Sequence[Candidate]) -> int:
        """See the class."""
        sticky = [
            self.pending[each.url] if hit >= self.HOLDS * tokens and self.pending[each.url] <= self.BOUND else None
            for hit, each in zip(hits, candidates, strict=True)
        ]
        if all(pending is None for pending in sticky):
            return super().pick(tokens, hits, candidates)
        return self.lowest([pending if pending is not None else float("inf") for pending in sticky])


class DynamoCost(_Rival):
    """Blocks to be prefilled (pending and own) + blocks of running requests, this one's included (weight 1)."""

    def cost(self, tokens: float, hit: float, candidate: Candidate) -> float:
        """See the class."""
        return self.pending[candidate.url] + tokens - hit + self.held[candidate.url] + tokens
