"""The request of a disaggregated fleet: it goes to a prefill and a decode instance; the answer is decode's.

What the two are sent, whether at once or prefill first, and what their answers mean, their dialect knows.

Before any byte has gone to the client, the failure of either leg means another pair without the guilty
instance. After that decode decides: a prefill that fails has no say any more.
"""

from __future__ import annotations

from fd_router.engines.error_answers import ERROR_IN_STREAM
from fd_router.engines.pairing import PairedRequest, PairPlan
from fd_router.errors import HttpError, Retry, UpstreamError
from fd_router.http.client_stream import ClientStream
from fd_router.http.dechunk import dechunked
from fd_router.http.heads import ResponseHead
from fd_router.http.messages import Request
from fd_router.instances.instance import Instance
from fd_router.openai.completion import KEPT_TEXT, Completion
from fd_router.routing.log_tags import request_tags
from fd_router.routing.pair_context import PairContext
from fd_router.routing.pair_fields import pair_fields, pair_lines
from fd_router.routing.pair_legs import Answer, DecodeLeg, PairLeg, PrefillLeg, blame
from fd_router.routing.pair_planning import plan_pair
from fd_router.routing.phase import AWAITING, CONNECTING, ENDED, PREPARING, STREAMING, UNANSWERED
from fd_router.routing.request import ANSWERS, RoutedRequest
from fd_router.routing.suspected_pair import SuspectedPair
from fd_router.scheduling.reservation import Reservation
from fd_router.telemetry.record import RequestRecord
from fd_router.telemetry.timestamps import now_ts_ms


class PairRequest(SuspectedPair):
    """One request to a pair of instances."""

    __slots__ = ("_answer",)

    def __init__(self, context: PairContext, request: Request, client: ClientStream, record: RequestRecord) -> None:
        RoutedRequest.__init__(self, context, request, client, record)
        self._pairing = context
        self._paired = None
        self._plan: PairPlan | None = None  # of the attempt under way, or the last one
        self._prefill: PrefillLeg | None = None
        self._decode: DecodeLeg | None = None
        self._answer: Answer | None = None  # an instance's own error, while it is decided what follows from it
        self._sent_at = 0.0
        self._suspect = ""

    def instances(self) -> tuple[Instance, ...]:
        """Return the instances that work on the request now: prefill, then decode, whose word counts."""
        if self._continuation is not None:
            return self._continuation.instances()
        return tuple(leg.instance for leg in (self._prefill, self._decode) if leg is not None)

    @property
    def engine_id(self) -> str:
        """The id that its instances know it by now: another one each time that it is scheduled again."""
        if self._continuation is not None and (engine_id := self._continuation.engine_id):
            return engine_id
        return self._plan.request_id if self._plan is not None else self._tracked_id

    @property
    def delivered_at(self) -> float:
        """When bytes of decode's answer came last, 0.0: none are read now."""
        return self._decode.delivered_at if self._decode is not None else 0.0

    # one attempt

    def _attempt(self) -> None:
        completion = self._completion
        if completion is None:
            return
        paired = self._paired or self._identify(completion)
        prefill, decode = self._select(completion)
        if prefill is None:
            self._attempt_alone(completion, paired, decode)
            return
        context = self._context
        try:
            if self._telemetry.log.info_on:
                self._notes.append(f"after SelectWorker decode, before return. ts_ms={now_ts_ms()}")
            if self._route is not None:
                self._follow()
                paired.use_body(self._route.body)
            self._plan = plan = self._make_plan(paired, prefill, decode)
            request, pool_of, stream = self._request, context.pools.of, completion.stream
            to_prefill, to_decode = plan.with_heads(request) if plan.has_own_heads else (request, request)
            self._prefill = prefill_leg = PrefillLeg(
                self, prefill, stream, pool_of(prefill.instance), to_prefill,
                context.live.current.proxy.prefill_timeout_secs, keeps_answer=plan.order == "prefill_first",
            )  # fmt: skip
            self._decode = decode_leg = DecodeLeg(self, decode, stream, pool_of(decode.instance), to_decode)
        except BaseException:  # from here on the legs give it back
            self._release(prefill)
            self._release(decode)
            raise
        clock = context.clock
        self.record.attempt_started = self._sent_at = clock()
        if self._phase is PREPARING:  # nearly always; the table has this move
            self._phase = CONNECTING
        else:
            self._move(CONNECTING)
        prefill_leg.start(plan.prefill_body())
        if self._is_full:
            decode_leg.pause()
        if prefill_leg.keeps_answer:
            decode_leg.wait()
            self._note_sending(prefill_leg)
            return
        decode_leg.start(plan.decode_body(None))
        if prefill_leg.is_sent and decode_leg.is_sent and self._phase is CONNECTING:
            self._phase = AWAITING  # nearly always, over kept connections; the table has this move
            self.record.sent_at = self._sent_at  # some µs ago: no reason to look at the clock once more

    def _select(self, completion: Completion) -> tuple[Reservation[Instance] | None, Reservation[Instance]]:
        """Choose, and note when: FastDeploy's scripts compute the scheduling time from these lines."""
        select_pair = self._pairing.select_pair if self._route is None else self._route.select_pair
        if self._suspect:
            return self._select_without_suspect(select_pair, completion)
        if not self._telemetry.log.info_on:
            return select_pair(completion, self._excluded, None, self)
        self._notes.append(f"before SelectWorker prefill. ts_ms={now_ts_ms()}")
        return select_pair(completion, self._excluded, self._on_prefill_chosen, self)

    def _on_prefill_chosen(self) -> None:
        self._notes.append(f"before SelectWorker decode, after prefill. ts_ms={now_ts_ms()}")

    def _identify(self, completion: Completion) -> PairedRequest:
        """Find the id by which the instances are to know the request, the same for all its attempts."""
        request, request_id = self._request, completion.request_id
        if not request_id:  # one id for everything, unless the client has one for its own end
            request_id = self._pairing.make_id() if request.head.request_id else request.request_id
            self._track(request_id)
            if request.head.request_id:
                self._tag(request_id)
        self._paired = paired = PairedRequest(
            request.body,
            request_id,
            bool(completion.request_id),
            completion.has_router_fields,
            completion.stream,
        )
        if request_id is not request.request_id:
            paired.http_id = request.request_id
        return paired

    def _make_plan(
        self, paired: PairedRequest, prefill: Reservation[Instance], decode: Reservation[Instance]
    ) -> PairPlan:
        """Have the dialect of the pair plan the attempt. Raises an HttpError when it can't."""
        if len(self._request.body) > KEPT_TEXT:
            self._drop_texts()
        self.record.attempts += 1
        self._tell_choice(prefill.instance, decode.instance)
        if self._asks:
            paired.use_body(self._body_for(decode.instance.dialect))
        return plan_pair(paired, prefill.instance, decode.instance)

    def _tag(self, new_id: str) -> None:
        """Log the id that was made here, which the instances' logs and the answer have."""
        if (completion := self._completion) is not None:
            self.record.tags = completion.tags = request_tags(
                self._request, completion.req_id, completion.session_id, new_id
            )

    def _tell_choice(self, prefill: Instance | None, decode: Instance) -> None:
        record = self.record
        record.decode = url = decode.url
        if prefill is None:
            record.prefill = ""
        else:
            record.prefill = prefill_url = prefill.url
            self._notes.append(f"select worker (prefill): {prefill_url}, tokens: {prefill.tokens}")
        self._notes.append(f"select worker (decode): {url}, count: {decode.running}")

    # being held up, abandoned

    def _pause_upstream(self) -> None:
        if self._decode is not None:
            self._decode.pause()

    def _resume_upstream(self) -> None:
        if self._decode is not None:
            self._decode.resume()

    def _release_all(self) -> None:
        """End both legs, but for a prefill that is still answering behind a decode that is done: it is drained."""
        decode = self._decode
        if decode is not None and decode.is_over and self.record.first_byte_at > 0.0:
            self._prefill = self._decode = None  # no cycles: what is over is freed at once
            self._release(decode.reservation)
        else:
            self._end_attempt()

    def _end_attempt(self) -> None:
        """End both legs of an attempt that came to nothing."""
        prefill, decode = self._prefill, self._decode
        self._prefill = self._decode = None
        self._give_back(prefill, decode)

    def _give_back(self, prefill: PrefillLeg | None, decode: DecodeLeg | None) -> None:
        """Close the legs' connections and give their counts back; a bug with one keeps nothing of the other."""
        try:
            self._end_leg(prefill)
        finally:
            self._end_leg(decode)

    def _end_leg(self, leg: PairLeg | None) -> None:
        if leg is not None:
            try:
                if not leg.is_over:
                    leg.cancel()
            finally:
                self._release(leg.reservation)

    def _goes_from_dead(self, key: str, why: str) -> bool:
        """Go to another pair, if one of this one is the instance with ``key``, and hasn't done its part."""
        if self._phase not in UNANSWERED:
            return False
        for leg in (self._prefill, self._decode):
            if leg is not None and leg.instance.key == key and leg.is_awaited:
                leg.cancel()
                self.on_leg_failed(leg, UpstreamError("dead", f"it is dead ({why})", instance=leg.instance.url))
                return True
        return False

    # what the legs tell

    def on_leg_sent(self, leg: PairLeg) -> None:
        """One of the two is on its way, late; with the other one, the request is."""
        if self._phase is not CONNECTING:
            return
        other = self._decode if leg is self._prefill else self._prefill
        is_first = leg is self._prefill and self._plan is not None and self._plan.order == "prefill_first"
        if other is None or is_first or other.is_sent or other.is_over:  # None: decode serves it alone
            self._await_answer()

    def may_replace(self) -> bool:
        """Whether a leg may be sent again, whose kept connection turned out dead."""
        return self._may_replace()

    def on_prefill_done(self, leg: PrefillLeg, head: ResponseHead, answer: bytes) -> None:
        """Give the prefill instance's counts back; it may still be answering. It may be decode's turn."""
        sent_at = self._sent_at
        if leg.keeps_answer and not self._start_decode(leg, head, answer):
            return
        clock, reservation = self._context.clock, leg.reservation
        self.record.prefill_at = now = clock()
        self._telemetry.metrics.leg_began("prefill", now - sent_at)
        if reservation.tracker is not None:
            reservation.first_token()
        what = "first chunk received" if leg.is_streamed else "non-stream prefill response done"
        self._notes.append(f"[prefill] {what}, release counter url={reservation.instance.url}")
        self._release(reservation)
        self._log_notes()

    def _start_decode(self, leg: PrefillLeg, head: ResponseHead, answer: bytes) -> bool:
        """Send decode what prefill answered. Returns False when that isn't what decode needs."""
        plan = self._plan
        if plan is None:
            return False
        try:
            body = plan.decode_body(dechunked(answer) if head.chunked else answer)
        except ValueError as error:
            detail = f"its answer lacks what decode needs: {error}"
            url = leg.instance.url
            self.on_leg_failed(leg, UpstreamError("error_answer", detail, instance=url, retry=Retry.NEVER))
            return False
        decode = self._decode
        if decode is not None:
            self._phase, self.record.sent_at = CONNECTING, 0.0  # prefill has ended; decode isn't reached yet
            self._sent_at = self._context.clock()
            decode.start_late(body)
            self._note_sending(decode)
        return True

    def on_decode_begun(self, leg: DecodeLeg, head: ResponseHead, body: bytes) -> None:
        """Pass decode's first bytes on."""
        if self._phase is AWAITING:  # nearly always; the table has this move
            self._phase = STREAMING
        else:
            self._move(STREAMING)
        clock = self._context.clock
        self.record.first_byte_at = now = clock()
        self._telemetry.metrics.leg_began("decode", now - self._sent_at)
        leg.reservation.instance.answered_at = now
        self.record.stream = leg.is_streamed
        if leg.is_streamed and head.status < 400:
            leg.reservation.first_token()
        self._write_head(head, body, self._pair_headers())
        prefill, reservation = self._prefill, leg.reservation
        if prefill is not None:  # nearly always: decode's answer tells of both
            reservation = prefill.reservation
        else:
            self._prefill_done(reservation)
        if reservation.wants_usage:
            self._watch_usage(body)
        if (journal := self._journal) is not None:
            leg.deliver_to(journal)
            journal.begun()

    def on_decode_data(self, data: bytes) -> None:
        """Pass more of decode's bytes on."""
        self.on_data(data)

    def on_decode_complete(self, leg: DecodeLeg) -> None:
        """Decode's answer is whole, and so is the client's, unless its beginning said that decode gives up."""
        if self._continuation is not None:
            return
        record = self.record
        is_judged = len(self._recent) == 1 and not record.stream  # nearly always, and by all of it
        if record.status < 300 and not is_judged and (flaw := self._judge_end(leg.reservation.instance)):
            self._telemetry.metrics.leg_failed(leg.role, "error_answer")
            self._log_failure(leg, "an error in the middle of the stream" if flaw == ERROR_IN_STREAM else flaw)
        if self._usage is not None:
            self._tell_usage((self._prefill or leg).reservation)
        self._end("completed")

    def on_leg_refused(self, leg: PairLeg, answer: Answer) -> None:
        """Pass a 4xx on, once: it is about the request, and another pair would say the same."""
        status = answer[0].status
        if status >= 400 and (breaker := leg.instance.breaker) is not None:
            breaker.refused(status, self._who)
        if self._phase is ENDED or (self._phase is STREAMING and leg is self._prefill):
            self._log_failure(leg, f"status {status}; the decode instance goes on")
            self._release(leg.reservation)
            self._log_notes()
            return
        self._log_failure(leg, f"status {status}")
        self._pass_on(*answer)

    def on_leg_failed(self, leg: PairLeg, error: UpstreamError, answer: Answer | None = None) -> None:
        """Try another pair, or tell the client whose fault it was. Prefill's, when decode has begun, is only logged."""
        if self._phase is ENDED or (self._phase is STREAMING and leg is self._prefill):
            self._log_failure(leg, f"{error.detail}; the decode instance goes on")
            self._telemetry.metrics.leg_failed(leg.role, error.reason)
            self._release(leg.reservation)
            self._log_notes()
            return
        self._telemetry.metrics.leg_failed(leg.role, error.reason)
        self._telemetry.metrics.upstream_failed(error.instance, error.reason)
        self._log_failure(leg, error.detail)
        if self._phase is STREAMING:
            self._end_attempt()  # a prefill that is still at work would be so for nobody
            self._break_off(error, leg.instance)
        else:
            blamed = blame(leg, error)
            blamed.headers = (*error.headers, *self._pair_fields())
            self._answer = answer
            self._suspect_prefill(leg, error)
            try:
                self._attempt_failed(leg.instance, error, blamed, leg.role)
            finally:
                self._answer = None

    # steps

    def _give_up(self, refusal: HttpError) -> None:
        """End with what the instance answered, as it came; where it didn't, the router says why."""
        if self._answer is None:
            self._fail_locally(refusal)
            return
        if refusal.status >= 500:
            self._log_error(refusal.message)
        self._pass_on(*self._answer)

    def _pass_on(self, head: ResponseHead, body: bytes) -> None:
        """End with an instance's whole answer, whichever of the two it is."""
        self._move(STREAMING)
        self.record.first_byte_at = self._context.clock()
        self._end_attempt()
        self._write_head(head, body, self._pair_headers())
        self._end("completed")

    def _may_repeat(self, failed: Instance, error: UpstreamError) -> bool:
        """Return whether another pair may do better; of this one, neither can finish without the other."""
        if error.reason not in ANSWERS:
            return True
        return self._may_resend(failed, error.status, is_forbidden=not error.may_be_repeated, so_far=1)

    def _pair_headers(self) -> bytes:
        record = self.record
        return pair_lines(record.prefill, record.decode) if self._context.live.current.proxy.expose_instances else b""

    def _pair_fields(self) -> tuple[tuple[str, str], ...]:
        """Return the same for an answer of the router's own: which pair it was is needed most where it failed."""
        return pair_fields(self.record) if self._context.live.current.proxy.expose_instances else ()

    def _log_failure(self, leg: PairLeg, what: str) -> None:
        self._log_error(f"{leg.role.capitalize()} request failed for {leg.instance.url}: {what}")
