"""The scheduler: hands a policy the candidates of a request, and counts what it chose."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Generic

from fd_router.errors import NoInstanceError, SaturatedError
from fd_router.scheduling.explanation import Draw, Verdict
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.reservation import InstanceT, Reservation

Available = Callable[[], Sequence[InstanceT]]
"""The instances that may be chosen now, ordered by URL."""

NO_ROOM = "has as many requests as it may have at once"


def _never() -> bool:
    return False


class Scheduler(Generic[InstanceT]):
    """Chooses the instance for a request among those available now.

    ``why_none`` tells, for the error, why there is nothing to choose from; ``is_full``, whether there would be, if only
    it had room.
    """

    def __init__(
        self,
        available: Available[InstanceT],
        policy: Policy,
        why_none: Callable[[], str],
        is_full: Callable[[], bool] = _never,
    ) -> None:
        self._available = available
        self._policy = policy
        self._why_none = why_none
        self._is_full = is_full

    def select(self, request: RequestView, tried: Collection[str] = ()) -> Reservation[InstanceT]:
        """Choose and count an instance, one not in ``tried`` (keys) as long as another is left.

        Raises NoInstanceError when nothing is available, SaturatedError when nothing has room.
        """
        candidates = self._available()
        if tried or not candidates:
            candidates = self._left(candidates, tried)
        chosen = self._policy.choose(request, candidates)  # also among one: a policy may want to remember it
        tracker = self._policy.on_dispatch(request, chosen)
        return Reservation(chosen, request.tokens, tracker)  # type: ignore[arg-type]  # one of what it was given

    def explain(self, request: RequestView, draw: Draw) -> tuple[Verdict]:
        """Explain what ``select`` would choose now, without counting or changing anything. Raises NoInstanceError."""
        return (draw(self._policy.explain(request, self._left(self._available(), ()))),)

    def _left(self, candidates: Sequence[InstanceT], tried: Collection[str]) -> Sequence[InstanceT]:
        if not candidates:
            raise self._none()
        return [c for c in candidates if c.key not in tried] or candidates

    def _none(self) -> NoInstanceError:
        if self._is_full():
            return SaturatedError(f"Failed to select worker: each instance that may be chosen {NO_ROOM}")
        return NoInstanceError(f"Failed to select worker: {self._why_none()}")
