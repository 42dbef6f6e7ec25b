"""The pair that goes on with a stream, in a disaggregated fleet: prefill gets what was generated as prompt."""

from __future__ import annotations

from collections.abc import Callable

from fd_router.engines.pairing import PairPlan
from fd_router.errors import Retry, UpstreamError
from fd_router.http.dechunk import dechunked
from fd_router.http.heads import ResponseHead
from fd_router.http.messages import Request
from fd_router.instances.instance import Instance
from fd_router.routing.context import RoutingContext
from fd_router.routing.continuation.contracts import LegListener
from fd_router.routing.pair_legs import Answer, DecodeLeg, PairLeg, PrefillLeg
from fd_router.scheduling.reservation import Reservation


class ContinuingPair:
    """Two legs, as one ``Leg`` of a continuation, and the ``Pair`` that they tell what happens."""

    def __init__(
        self,
        stream: LegListener,
        plan: PairPlan,
        pair: tuple[Reservation[Instance], Reservation[Instance]],
        context: RoutingContext,
        request: Request,
        release: Callable[[Reservation[Instance]], None],
    ) -> None:
        is_first, pool_of = plan.order == "prefill_first", context.pools.of
        timeout = context.live.current.proxy.prefill_timeout_secs
        to_prefill, to_decode = plan.with_heads(request)
        self.reservation, decode = pair
        self._stream = stream
        self._plan = plan
        self._release = release
        self.instances = (self.reservation.instance, decode.instance)
        """Prefill, then decode, whose answer it is."""
        pools = [pool_of(instance) for instance in self.instances]
        self._prefill: PrefillLeg | None = PrefillLeg(
            self, self.reservation, True, pools[0], to_prefill, timeout, keeps_answer=is_first
        )
        self._decode: DecodeLeg | None = DecodeLeg(self, decode, True, pools[1], to_decode)
        self._has_begun = False

    # what the continuation calls

    @property
    def engine_id(self) -> str:
        """The id by which both know it."""
        return self._plan.request_id

    @property
    def delivered_at(self) -> float:
        """When bytes of decode's answer came last."""
        return self._decode.delivered_at if self._decode is not None else 0.0

    def start(self) -> None:
        """Send both their request, or prefill alone where it goes first."""
        plan = self._plan
        if self._prefill is not None:
            self._prefill.start(plan.prefill_body())
        if self._decode is None:
            return
        if plan.order == "prefill_first":
            self._decode.wait()
        else:
            self._decode.start(plan.decode_body(None))

    def cancel(self) -> None:
        """Close both connections, and give the counts back; a prefill that is still answering ends, too."""
        prefill, decode = self._prefill, self._decode
        self._prefill = self._decode = None  # no cycles: what is over is freed at once
        try:
            self._end(prefill)
        finally:
            self._end(decode)

    def pause(self) -> None:
        """Stop reading."""
        if self._decode is not None:
            self._decode.pause()

    def resume(self) -> None:
        """Read on."""
        if self._decode is not None:
            self._decode.resume()

    # what the legs call

    def on_leg_sent(self, leg: PairLeg) -> None:
        """Nothing waits for that."""

    @property
    def is_abort_asked(self) -> bool:
        """Whether the engine is right to abort it."""
        return self._stream.is_aborted

    def may_replace(self) -> bool:
        """A kept connection that turned out dead costs nothing."""
        return True

    def on_bug(self, error: Exception) -> None:
        """Have the request end."""
        self._stream.on_bug(error)

    def on_prefill_done(self, leg: PrefillLeg, head: ResponseHead, answer: bytes) -> None:
        """Give prefill's counts back; it may be decode's turn."""
        if self._plan.order == "prefill_first" and not self._start_decode(leg, head, answer):
            return
        leg.reservation.first_token()
        self._release(leg.reservation)

    def on_decode_begun(self, leg: DecodeLeg, head: ResponseHead, body: bytes) -> None:
        """Hand decode's first bytes on."""
        self._has_begun = True
        leg.reservation.first_token()
        self._stream.on_leg_begun(self, head)
        self._stream.on_leg_data(self, body)

    def on_decode_data(self, data: bytes) -> None:
        """Hand more of them on."""
        self._stream.on_leg_data(self, data)

    def on_decode_complete(self, leg: DecodeLeg) -> None:  # noqa: ARG002
        """Decode's answer is whole."""
        self._stream.on_leg_complete(self)

    def on_given_back(self, leg: DecodeLeg, head: ResponseHead, body: bytes) -> None:  # noqa: ARG002
        """Decode has no memory for it."""
        self._fail(leg, "given back", head.status)

    def on_leg_refused(self, leg: PairLeg, answer: Answer) -> None:
        """One of the two answered 4xx."""
        self._fail(leg, "refused", answer[0].status)

    def on_leg_failed(self, leg: PairLeg, error: UpstreamError, answer: Answer | None = None) -> None:  # noqa: ARG002
        """One of the two failed; prefill matters no more once decode has begun."""
        if leg is self._prefill and self._has_begun:
            self._release(leg.reservation)
        else:
            self._stream.on_leg_failed(self, leg.instance, error)

    # steps

    def _end(self, leg: PairLeg | None) -> None:
        if leg is not None:
            try:
                leg.cancel()
            finally:
                self._release(leg.reservation)

    def _start_decode(self, leg: PrefillLeg, head: ResponseHead, answer: bytes) -> bool:
        """Send decode what prefill answered. Returns False when that isn't what decode needs."""
        try:
            body = self._plan.decode_body(dechunked(answer) if head.chunked else answer)
        except ValueError:
            self._fail(leg, "its answer lacks what decode needs", head.status)
            return False
        if self._decode is not None:
            self._decode.start_late(body)
        return True

    def _fail(self, leg: PairLeg, what: str, status: int) -> None:
        url = leg.instance.url
        error = UpstreamError("error_answer", what, instance=url, retry=Retry.NEVER, status=status)
        self.on_leg_failed(leg, error)

    def __repr__(self) -> str:
        return f"<ContinuingPair {self._prefill!r} {self._decode!r}>"
