"""The request of a disaggregated fleet whose stream goes on at another pair."""

from __future__ import annotations

from collections.abc import Sequence

from fd_router.engines.pairing import PairedRequest
from fd_router.instances.instance import Instance
from fd_router.openai.completion import Completion
from fd_router.routing.continuation.contracts import Leg, LegListener
from fd_router.routing.continuation.pair_leg import ContinuingPair
from fd_router.routing.continuation.single_leg import SingleLeg
from fd_router.routing.pair_context import PairContext
from fd_router.routing.pair_planning import plan_alone, plan_pair
from fd_router.routing.request import RoutedRequest
from fd_router.scheduling.reservation import Reservation


class ContinuablePair(RoutedRequest):
    """What concerns that. It has no ``__init__``: ``PairRequest`` sets what it needs."""

    __slots__ = ("_paired", "_pairing")

    _paired: PairedRequest | None  # as the dialect knows it, once it has an id
    _pairing: PairContext

    def _tell_choice(self, prefill: Instance | None, decode: Instance) -> None:
        """Write down which pair was chosen, or which decode instance alone."""
        raise NotImplementedError

    def why_alone(self, decode: Instance) -> str:
        """Say in a word why no pair can serve it; "" when one can."""
        raise NotImplementedError

    def goes_alone(self, why: str) -> None:
        """Learn that a decode instance alone was chosen."""
        raise NotImplementedError

    def choose_leg(
        self, stream: LegListener, completion: Completion, body: bytes, excluded: Sequence[str], number: int
    ) -> Leg:
        """Choose the pair, or the decode instance alone, at which a stream goes on that broke off.

        Under an id of its own.
        """
        so_far, route = self._paired.reschedules if self._paired is not None else 0, self._route
        paired = PairedRequest(
            body, self._tracked_id, True, True, True, so_far + number, http_id=self._request.request_id
        )
        select_pair = (self._pairing if route is None else route).select_pair
        prefill, decode = select_pair(completion, excluded, None, self)
        try:
            self._tell_choice(None if prefill is None else prefill.instance, decode.instance)
            leg = self._make_leg(stream, paired, prefill, decode)
        except BaseException:  # an HttpError where the dialect can't
            for reservation in (prefill, decode):
                if reservation is not None:
                    self._release(reservation)
            raise
        if self._is_full:
            leg.pause()
        return leg

    def _make_leg(
        self,
        stream: LegListener,
        paired: PairedRequest,
        prefill: Reservation[Instance] | None,
        decode: Reservation[Instance],
    ) -> Leg:
        if prefill is None:
            body = plan_alone(paired, decode.instance).decode_body(None)
            return SingleLeg(stream, decode, self._context.pools, self._request, body, self._release, self._who)
        plan = plan_pair(paired, prefill.instance, decode.instance)
        return ContinuingPair(stream, plan, (prefill, decode), self._context, self._request, self._release)
