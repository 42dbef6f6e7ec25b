"""The request of a disaggregated fleet whose stream goes on at another pair."""

from __future__ import annotations

from collections.abc import Sequence

from fd_router.engines.dialect import PairedRequest
from fd_router.instances.instance import Instance
from fd_router.openai.completion import Completion
from fd_router.routing.continuation.pair_leg import ContinuingPair
from fd_router.routing.continuation.stream import StreamContinuation
from fd_router.routing.pair_context import PairContext
from fd_router.routing.pair_planning import plan_pair
from fd_router.routing.request import RoutedRequest


class ContinuablePair(RoutedRequest):
    """What concerns that. It has no ``__init__``: ``PairRequest`` sets what it needs."""

    __slots__ = ("_paired", "_pairing")

    _paired: PairedRequest | None  # as the dialect knows it, once it has an id
    _pairing: PairContext

    def _tell_choice(self, prefill: Instance, decode: Instance) -> None:
        """Write down which pair was chosen."""
        raise NotImplementedError

    def choose_leg(
        self, stream: StreamContinuation, completion: Completion, body: bytes, excluded: Sequence[str], number: int
    ) -> ContinuingPair:
        """Choose the pair at which a stream goes on that broke off, under an id of its own."""
        so_far, route = self._paired.reschedules if self._paired is not None else 0, self._route
        paired = PairedRequest(body, self._tracked_id, True, True, True, so_far + number)
        prefill, decode = pair = (self._pairing if route is None else route).select_pair(completion, excluded)
        try:
            self._tell_choice(prefill.instance, decode.instance)
            plan = plan_pair(paired, prefill.instance, decode.instance)
            leg = ContinuingPair(stream, plan, pair, self._context, self._request, self._release)
        except BaseException:  # an HttpError where the dialect can't
            self._release(prefill)
            self._release(decode)
            raise
        if self._is_full:
            leg.pause()
        return leg
