"""The request whose decode instance answered an error of prefill's doing, perhaps: its cache could not be fetched."""

from __future__ import annotations

from fd_router.errors import NoInstanceError, UpstreamError
from fd_router.instances.instance import Instance
from fd_router.openai.completion import Completion
from fd_router.routing.decode_alone import DecodeAlone
from fd_router.routing.pair_context import SelectPair
from fd_router.routing.pair_legs import PairLeg
from fd_router.scheduling.reservation import Reservation

Chosen = tuple[Reservation[Instance] | None, Reservation[Instance]]


class SuspectedPair(DecodeAlone):
    """What concerns that. It has no ``__init__``: ``PairRequest`` sets what it needs."""

    __slots__ = ("_suspect",)

    _suspect: str  # the key of that prefill instance, for the attempt that follows; "": none

    def _suspect_prefill(self, leg: PairLeg, error: UpstreamError) -> None:
        """Make the next attempt without either of the two, if that may be."""
        plan, prefill = self._plan, self._prefill
        if plan is None or not plan.blames_both or prefill is None or leg is prefill:
            return
        if error.reason == "error_answer" and error.status >= 500:
            self._suspect = prefill.instance.key

    def _select_without_suspect(self, select_pair: SelectPair, completion: Completion) -> Chosen:
        """Choose without both, else without the suspect, else without decode, which failed last.

        Raises NoInstanceError.
        """
        suspect, self._suspect = self._suspect, ""
        others = self._excluded[:-1]
        for tried in ((*self._excluded, suspect), (*others, suspect)):
            try:
                chosen: Chosen = select_pair(completion, tried, None, self)
            except NoInstanceError:
                continue
            self._excluded = tried
            return chosen
        return select_pair(completion, self._excluded, None, self)
