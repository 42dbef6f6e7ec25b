"""The scheduler: hands a policy the candidates of a request, and counts what it chose."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Generic

from fd_router.errors import NoInstanceError, SaturatedError
from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.candidate_group import CandidateGroup
from fd_router.scheduling.decision_tap import DecisionObserver, observed
from fd_router.scheduling.explanation import Draw, Verdict
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.ranks import reserve
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.reservation import InstanceT, Reservation
from fd_router.scheduling.tracker import RequestTracker

SATURATED = "has as many requests as it may have at once"


OnDispatch = Callable[[RequestView, Candidate], RequestTracker | None]


def dispatch_hook(policy: Policy) -> OnDispatch | None:
    """Return what is to be called when a request goes to an instance; None where ``policy`` notes nothing then."""
    return policy.on_dispatch if policy.notes_dispatches else None


Expand = Callable[[Sequence[InstanceT]], Sequence[InstanceT]]


class Scheduler(Generic[InstanceT]):
    """Chooses the instance for a request among the candidates of one group, by one policy.

    ``why_none`` tells, for the error, why there is nothing to choose from. ``expand`` puts ranks in the place of
    instances (``Ranks.view``), for a policy to which that makes a difference.
    """

    def __init__(
        self,
        group: CandidateGroup[InstanceT],
        policy: Policy,
        why_none: Callable[[], str],
        role: str = "mixed",
        expand: Expand[InstanceT] | None = None,
    ) -> None:
        """``role``: what an observer of its choices is told that they are for."""
        self._expand = expand
        self._group = group
        self._policy = self._plain_policy = policy
        self._role = role
        self._why_none = why_none
        self._on_dispatch = dispatch_hook(policy)

    def select(self, request: RequestView, tried: Collection[str] = ()) -> Reservation[InstanceT]:
        """Choose and count an instance, one not in ``tried`` (keys) as long as another is left.

        Raises NoInstanceError when nothing is available, SaturatedError when nothing has headroom.
        """
        candidates = self._group.candidates(tried) or self._although_tried()
        if (expand := self._expand) is not None:
            candidates = expand(candidates)
        chosen = self._policy.choose(request, candidates)  # also among one: a policy may want to remember it
        tracker = self._on_dispatch(request, chosen) if self._on_dispatch is not None else None
        if expand is not None:
            return reserve(chosen, request.tokens, tracker)  # type: ignore[arg-type]  # one of what it was given
        return Reservation(chosen, request.tokens, tracker)  # type: ignore[arg-type]  # one of what it was given

    def _although_tried(self) -> Sequence[InstanceT]:
        """Return those that were tried, since no other is left; not again of the reserve. Raises NoInstanceError."""
        candidates = () if self._group.is_reserve else self._group.candidates()
        if not candidates:
            raise self._none()
        return candidates

    def explain(self, request: RequestView, draw: Draw, seeker: object = None) -> tuple[Verdict]:  # noqa: ARG002
        """Explain what ``select`` would choose now, without counting or changing anything. Raises NoInstanceError.

        ``seeker``: of a pair; there is none here.
        """
        candidates = self._group.candidates()
        if not candidates:
            raise self._none()
        if self._expand is not None:
            candidates = self._expand(candidates)
        return (draw(self._policy.explain(request, candidates)),)

    def tap(self, observer: DecisionObserver | None) -> None:
        """Show its choices to ``observer`` from now on, None: to nobody."""
        self._policy = observed(self._plain_policy, self._role, observer)

    def _none(self) -> NoInstanceError:
        if self._group.is_saturated:
            return SaturatedError(f"Failed to select worker: each instance that may be chosen {SATURATED}")
        return NoInstanceError(f"Failed to select worker: {self._why_none()}")
