"""A scheduling policy of a third party: each tenant's requests go to the instances that carry its label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import msgspec

from fd_router.scheduling.contract import (
    Candidate,
    Environment,
    Explanation,
    Policy,
    RequestTracker,
    RequestView,
    Standing,
)


class ByTenantOptions(msgspec.Struct, frozen=True):
    """What ``scheduler.policy-options`` may hold: named, typed and bounded here, checked when the router starts."""

    header: str = "x-tenant"  # names the tenant of a request
    label: str = "tenant"  # names the tenant of an instance, in its registration's ``labels``
    most: Annotated[int, msgspec.Meta(ge=1)] = 100  # requests of a tenant at its instances; more go to the shared ones


class ByTenant(Policy):
    """The fewest requests among the tenant's own instances, while it has few there, or among those without a label."""

    Options = ByTenantOptions

    def __init__(self, environment: Environment, options: ByTenantOptions) -> None:
        self._random = environment.random
        self._options = options
        self._at_own: Counter[str] = Counter()  # tenant → requests at its own instances

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        """Return one of ``candidates``."""
        best = self._best(request, candidates)
        return candidates[best[int(self._random.random() * len(best))]]

    def explain(self, request: RequestView, candidates: Sequence[Candidate]) -> Explanation:
        """Say how ``choose`` would choose."""
        standings = [Standing(candidate, load=candidate.running) for candidate in candidates]
        return Explanation("fewest requests at an instance for this tenant", standings, self._best(request, candidates))

    def on_dispatch(self, _: RequestView, candidate: Candidate) -> RequestTracker | None:
        """Count what goes to instances with a label."""
        tenant = candidate.labels.get(self._options.label)
        return AtOwn(self._at_own, tenant) if tenant else None

    def _best(self, request: RequestView, candidates: Sequence[Candidate]) -> list[int]:
        """Return the places of the best ones."""
        tenant = request.header(self._options.header) or ""
        if self._at_own[tenant] >= self._options.most:
            tenant = ""
        labels = [candidate.labels.get(self._options.label, "") for candidate in candidates]
        places = [place for place, label in enumerate(labels) if label == tenant]
        places = places or [place for place, label in enumerate(labels) if not label] or list(range(len(labels)))
        fewest = min(candidates[place].running for place in places)
        return [place for place in places if candidates[place].running == fewest]


class AtOwn(RequestTracker):
    """One request at an instance of its tenant's, until it ends. The other methods of a tracker have defaults."""

    def __init__(self, counts: Counter[str], tenant: str) -> None:
        self._counts, self._tenant = counts, tenant
        counts[tenant] += 1

    def on_end(self) -> None:
        """It is over."""
        self._counts[self._tenant] -= 1
