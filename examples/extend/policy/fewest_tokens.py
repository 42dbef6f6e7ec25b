"""A scheduling policy of a third party: the smallest that there is."""

from collections.abc import Sequence

from fd_router.scheduling.contract import Candidate, Policy, RequestView


class FewestTokens(Policy):
    """The instance with the fewest prompt tokens to prefill."""

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        """Return one of ``candidates``."""
        return min(candidates, key=lambda candidate: candidate.tokens)
