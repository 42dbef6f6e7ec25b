"""The request of a pair whose decode instance gave it back for want of memory: it is scheduled again."""

from __future__ import annotations

from fd_router.engines.dialect import GivenBack
from fd_router.engines.pairing import PairedRequest
from fd_router.errors import HttpError, NoInstanceError
from fd_router.http.heads import ResponseHead
from fd_router.instances.instance import Instance
from fd_router.routing.continuable_pair import ContinuablePair
from fd_router.routing.pair_legs import DecodeLeg, PairLeg, PrefillLeg


class ReschedulablePair(ContinuablePair):
    """What concerns that. It has no ``__init__``: ``PairRequest`` sets what it needs."""

    __slots__ = ("_decode", "_prefill")

    _prefill: PrefillLeg | None
    _decode: DecodeLeg | None

    def on_decode_begun(self, leg: DecodeLeg, head: ResponseHead, body: bytes) -> None:
        """Pass decode's first bytes on."""
        raise NotImplementedError

    def on_decode_complete(self, leg: DecodeLeg) -> None:
        """Decode's answer is whole, and so is the client's."""
        raise NotImplementedError

    def _log_failure(self, leg: PairLeg, what: str) -> None:
        raise NotImplementedError

    def on_given_back(self, leg: DecodeLeg, head: ResponseHead, body: bytes) -> None:
        """Schedule the request again that decode gave back, or pass the answer on where that can't be."""
        given_back = leg.instance.dialect.read_given_back(body)
        paired = self._paired
        most = self._context.live.current.proxy.preempt_retry_count
        if paired is None or paired.reschedules >= most:
            self._log_failure(leg, f"{given_back.reason} after {most} reschedules, which is the limit")
        elif self._reschedule(paired, leg, given_back, head.status):
            return
        self.on_decode_begun(leg, head, body)
        self.on_decode_complete(leg)

    def _reschedule(self, paired: PairedRequest, leg: DecodeLeg, given_back: GivenBack, status: int) -> bool:
        """Schedule a request again that decode gave back. Returns False when there is no pair to take it."""
        if not self._keeps_to_model(leg.instance):
            return False
        record = self.record
        so_far, known = given_back.token_ids, list(paired.token_ids)
        paired.token_ids = so_far if so_far[: len(known)] == known else known + so_far
        self._log_failure(leg, f"{given_back.reason} after {len(paired.token_ids)} tokens")
        paired.reschedules += 1
        if self._route is not None:
            self._route.pin()
        held, given_up = (self._prefill, self._decode), record.attempt("given back", self._context.clock(), status)
        self._end_attempt()
        try:
            self._attempt_without(leg.instance)
        except HttpError:  # no pair, or a body that no other attempt can be made of
            self._prefill, self._decode = held
            return False
        record.failed_attempts = (*record.failed_attempts, given_up)
        self._log_notes()
        self._telemetry.metrics.retried("pd_reschedule")
        return True

    def _attempt_without(self, giver: Instance) -> None:
        """Make another attempt, without the decode instance that gave the request back if that is wished and can be.

        Raises NoInstanceError as ``_attempt`` does.
        """
        if not self._context.live.current.proxy.preempt_retry_exclude_decode:
            self._attempt()
            return
        before, self._excluded = self._excluded, (*self._excluded, giver.key)
        try:
            self._attempt()
        except NoInstanceError:
            self._excluded = before  # it is the last one left: better it than none
            self._attempt()
        finally:
            self._excluded = before
