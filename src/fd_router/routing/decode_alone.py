"""The request that a decode instance serves alone, since no pair can, or it lacks too little of the prompt for one."""

from __future__ import annotations

from fd_router.engines.pairing import PairedRequest, PairPlan
from fd_router.instances.instance import Instance
from fd_router.openai.completion import Completion
from fd_router.routing.pair_legs import DecodeLeg, PairLeg
from fd_router.routing.pair_planning import plan_alone, why_alone
from fd_router.routing.phase import AWAITING, CONNECTING, PREPARING
from fd_router.routing.reschedulable_pair import ReschedulablePair
from fd_router.scheduling.reservation import Reservation


class DecodeAlone(ReschedulablePair):
    """What concerns that. It has no ``__init__``: ``PairRequest`` sets what it needs."""

    __slots__ = ("_plan", "_sent_at")

    _plan: PairPlan | None  # of the attempt under way, or the last one
    _sent_at: float

    # what scheduling asks

    def why_alone(self, decode: Instance) -> str:
        """Say in a word why no pair can serve it; "" when one can."""
        paired = self._paired
        return "" if paired is None else why_alone(paired, self._context.endpoint.path, decode)

    def goes_alone(self, why: str) -> None:
        """Learn that a decode instance alone was chosen."""
        self._telemetry.metrics.decode_alone(why)
        self._notes.append(f"decode serves it alone: {why}")

    # one attempt

    def _attempt_alone(self, completion: Completion, paired: PairedRequest, decode: Reservation[Instance]) -> None:
        instance, context = decode.instance, self._context
        try:
            if self._route is not None:
                self._follow()
                paired.use_body(self._route.body)
            self._drop_texts()
            self.record.attempts += 1
            self._tell_choice(None, instance)
            if self._asks:
                paired.use_body(self._body_for(instance.dialect))
            self._plan = plan = plan_alone(paired, instance)
            pool = context.pools.of(instance)
            self._decode = leg = DecodeLeg(self, decode, completion.stream, pool, self._request)  # type: ignore[arg-type]  # a Pair it is
        except BaseException:  # from here on the leg gives it back
            self._release(decode)
            raise
        clock = context.clock
        self.record.attempt_started = self._sent_at = clock()
        if self._phase is PREPARING:
            self._phase = CONNECTING
        else:
            self._move(CONNECTING)
        if self._is_full:
            leg.pause()
        leg.start(plan.decode_body(None))
        self._note_sending(leg)

    def _note_sending(self, leg: PairLeg) -> None:
        """Note that the only leg that has been started is on its way, unless it waits for a connection."""
        if leg.is_sent and self._phase is CONNECTING:
            self._await_answer()

    def _await_answer(self) -> None:
        """Note that the request is on its way, as far as it can be by now."""
        self._phase = AWAITING  # the table has this move
        self.record.sent_at = self._context.clock()
