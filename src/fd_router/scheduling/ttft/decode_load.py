"""``ttft_aware`` among decode instances: the one whose batch holds the least."""

from __future__ import annotations

from collections.abc import Sequence

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.explanation import Explanation, by_lowest
from fd_router.scheduling.loads import lowest_places
from fd_router.scheduling.policy import Need, Policy
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.tracker import RequestTracker

REQUEST_TOKENS = 1_000
"""What a request counts beside its prompt: the tokens it generates, and its place in the batch."""

TOKENS_PER_COUNT = 8
"""``RequestView.tokens`` counts characters × 2; a token has some four characters."""


class DecodeLoadPolicy(Policy):
    """Lowest ``Σ (prompt tokens + 1000)`` over the requests running at a decode instance; any of equals.

    The time of a decode step grows with the batch and with the context that each request in it attends to, and so does
    the memory that must be free before a request gets its first token there.
    """

    needs = frozenset({Need.TOKEN_IDS})

    def __init__(self, environment: Environment) -> None:
        self._random = environment.random
        self._held: dict[str, int] = {}  # tokens, by URL, where there are any

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:  # noqa: ARG002
        """Return a candidate with the least in its batch."""
        loads = self._loads(candidates)
        places = lowest_places(loads, 0 if 0 in loads else min(loads), self._random)
        return candidates[places[int(self._random.random() * len(places))]]

    def explain(self, request: RequestView, candidates: Sequence[Candidate]) -> Explanation:  # noqa: ARG002
        """Explain that the smallest batch wins."""
        return by_lowest("fewest tokens in the batch", candidates, self._loads(candidates))

    def on_dispatch(self, request: RequestView, candidate: Candidate) -> Held:
        """Count the request until it is over."""
        ids = request.token_ids
        tokens = len(ids) if ids is not None else request.tokens // TOKENS_PER_COUNT
        return Held(self._held, candidate.url, tokens + REQUEST_TOKENS)

    def _loads(self, candidates: Sequence[Candidate]) -> list[int]:
        held = self._held
        return [held.get(candidate.url, 0) for candidate in candidates]


class Held(RequestTracker):
    """A request's part of ``held``."""

    __slots__ = ("_held", "_tokens", "_url")

    def __init__(self, held: dict[str, int], url: str, tokens: int) -> None:
        self._held = held
        self._url = url
        self._tokens = tokens
        held[url] = held.get(url, 0) + tokens

    def on_end(self) -> None:
        """Count it no more."""
        left = self._held[self._url] - self._tokens
        if left:
            self._held[self._url] = left
        else:
            del self._held[self._url]
