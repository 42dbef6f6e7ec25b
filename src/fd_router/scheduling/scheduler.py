"""The scheduler: hands a policy the candidates of a request, and counts what it chose."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Generic

from fd_router.errors import NoInstanceError
from fd_router.scheduling.contract import Decision, InstanceT, Policy, RequestView

Available = Callable[[], Sequence[InstanceT]]
"""The instances that may be chosen now, ordered by URL."""


class Scheduler(Generic[InstanceT]):
    """Chooses the instance for a request among those available now.

    ``why_none`` tells, for the error, why there is nothing to choose from.
    """

    def __init__(self, available: Available[InstanceT], policy: Policy, why_none: Callable[[], str]) -> None:
        self._available = available
        self._policy = policy
        self._why_none = why_none

    def select(self, request: RequestView, tried: Collection[str] = ()) -> Decision[InstanceT]:
        """Choose and count an instance, one not in ``tried`` (keys) as long as another is left.

        Raises NoInstanceError when nothing is available.
        """
        candidates = self._available()
        if tried:
            candidates = [c for c in candidates if c.key not in tried] or candidates
        if not candidates:
            raise NoInstanceError(f"Failed to select worker: {self._why_none()}")
        chosen = self._policy.choose(request, candidates)  # also among one: a policy may want to remember it
        return Decision(chosen, request.tokens)  # type: ignore[arg-type]  # a policy returns one of what it was given
