"""The request of a centralized fleet: to one instance, or another one as long as no byte of an answer has come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Final

from fd_router.engines.dialect import OK, Verdict
from fd_router.errors import HttpError, NoInstanceError, Retry, SaturatedError, UpstreamError
from fd_router.http.client_stream import NOWHERE, ClientStream
from fd_router.http.connection_pool import InstancePool
from fd_router.http.heads import ResponseHead
from fd_router.http.messages import Request
from fd_router.http.retry_fields import forbids_retry
from fd_router.http.upstream_request import UpstreamRequest
from fd_router.http.write_batcher import Buffers
from fd_router.instances.instance import Health, Instance
from fd_router.openai.completion import KEPT_TEXT, Completion
from fd_router.routing.context import RoutingContext
from fd_router.routing.continuation.contracts import LegListener
from fd_router.routing.continuation.single_leg import SingleLeg
from fd_router.routing.model_route import ModelRoute
from fd_router.routing.phase import AT_AN_INSTANCE, AWAITING, CONNECTING, HELD, PREPARING, STREAMING, UNANSWERED
from fd_router.routing.request import RoutedRequest, report_failure, tell_status
from fd_router.routing.response_relay import ResponseRelay
from fd_router.scheduling.ranks import RankReservation
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.reservation import Reservation
from fd_router.telemetry.record import RequestRecord

Select = Callable[[RequestView, Collection[str]], Reservation[Instance]]
"""(request, keys of instances tried) → the instance, counted. Raises NoInstanceError."""

MAX_HELD: Final = 1024 * 1024
"""Bytes of a completion that is kept until it is whole; longer ones go to the client as they come."""


class SingleContext(RoutingContext, frozen=True, kw_only=True, eq=False):
    """What every request to one instance needs."""

    select: Select


class SingleInstanceRequest(UpstreamRequest, RoutedRequest):
    """One request to one instance: a ``Listener`` of the connection there."""

    __slots__ = ("_awaited", "_connecting", "_connection", "_held", "_pool", "_reservation", "_select", "_time_limit")

    _held: tuple[ResponseHead, list[bytes]]  # an answer that is kept until it is whole

    def __init__(self, context: SingleContext, request: Request, client: ClientStream, record: RequestRecord) -> None:
        RoutedRequest.__init__(self, context, request, client, record)  # by name: super() costs a look-up more
        self._select = context.select
        self._reservation: Reservation[Instance] | None = None
        self._connection = self._connecting = None
        self._time_limit = 0.0
        self._awaited: InstancePool | None = None  # of the instance that it is to be sent to, when its policy says so

    def instances(self) -> tuple[Instance, ...]:
        """Return the instance that works on the request now."""
        if self._continuation is not None:
            return self._continuation.instances()
        reservation = self._reservation
        return (reservation.instance,) if reservation is not None and self._phase in AT_AN_INSTANCE else ()

    # one attempt

    def _attempt(self) -> None:
        completion, route, select = self._completion, self._route, self._select
        if completion is not None:
            self._reservation = reservation = (
                select(completion, self._excluded) if route is None else self._select_by(route, self._excluded)
            )
            self._send_to(reservation)

    def _select_by(self, route: ModelRoute, tried: Collection[str]) -> Reservation[Instance]:
        """Choose an instance of the request's model, not one of ``tried`` (keys) if there is another."""
        reservation = route.select(tried)
        try:
            self._follow()
        except BaseException:
            reservation.release()
            raise
        return reservation

    def _send_to(self, reservation: Reservation[Instance]) -> None:
        instance, context, record = reservation.instance, self._context, self.record
        clock = context.clock
        record.attempts += 1
        record.attempt_started = clock()
        record.mixed = url = instance.url
        self._notes.append(f"select worker (mixed): {url}, count: {instance.running}")
        self._pool = pool = context.pools.of(instance)
        if len(self._request.body) > KEPT_TEXT:
            self._drop_texts()
        if reservation.tracker is not None and reservation.hold(self._be_sent_soon):
            self._move(HELD)
            self._awaited = pool
            pool.awaited += 1
            self._notes.append(f"waits in the router until {instance.url} can begin with it")
        else:
            self._dispatch()

    def _be_sent_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._on_due)  # what goes wrong here is not the caller's concern

    def _on_due(self) -> None:
        """The policy says that the request is to be sent now: there, or, if nothing may go there, somewhere else."""
        pool, reservation = self._awaited, self._reservation
        if pool is None or reservation is None:
            return
        self._stop_waiting()
        if reservation.instance.may_serve and not pool.retired:
            self._dispatch()
        else:
            self._go_elsewhere(reservation, pool)

    def _go_elsewhere(self, reservation: Reservation[Instance], pool: InstancePool) -> None:
        """Choose again for a request that waited; where nobody else is there, it goes where it was to go, if it can."""
        self.record.attempts -= 1  # nothing was sent
        try:
            self._find_route()
            self._attempt()
        except NoInstanceError:
            if reservation.instance.health is Health.UNHEALTHY or pool.retired:
                self._release(reservation)
                self._begin()
            else:
                self.record.attempts += 1
                self._dispatch()
        except HttpError as error:  # as in _begin
            self._release(reservation)
            self._fail_locally(error)
        except Exception as error:  # noqa: BLE001  as in _begin
            self._release(reservation)
            self.on_bug(error)
        else:
            self._release(reservation)
            self._log_notes()

    def _stop_waiting(self) -> None:
        if self._awaited is not None:
            self._awaited.awaited -= 1
            self._awaited = None

    def _on_connecting(self) -> None:
        self._move(CONNECTING)

    def _on_sending(self) -> bytes | Buffers:
        request, record = self._request, self.record
        if self._phase is PREPARING:  # nearly always, over a kept connection; the table has this move
            self._phase = AWAITING
            record.sent_at = record.attempt_started  # some µs ago: no reason to look at the clock once more
        else:
            self._move(AWAITING)
            record.sent_at = self._context.clock()
        pool, reservation, route = self._pool, self._reservation, self._route
        body = request.body if route is None else route.body
        message = pool.message
        if self._asks and reservation is not None:
            body = self._body_for(reservation.instance.dialect)
        host = reservation.line + pool.host if type(reservation) is RankReservation else pool.host
        return message(request, host, body)

    def _release_all(self) -> None:
        if self._awaited is not None:
            self._stop_waiting()
        try:
            if self._connection is not None or self._connecting is not None:
                self._cancel()
        finally:
            reservation = self._reservation
            if reservation is not None:
                self._reservation = None  # no cycles, by way of what its policy keeps: what is over is freed at once
                self._release(reservation)

    def _end_attempt(self) -> None:
        self._release_all()

    def choose_leg(
        self,
        stream: LegListener,
        completion: Completion,
        body: bytes,
        excluded: Sequence[str],
        number: int,  # noqa: ARG002
    ) -> SingleLeg:
        """Choose where a stream goes on that broke off."""
        if (route := self._route) is None:
            reservation = self._select(completion, excluded)
        else:
            reservation = route.select(excluded, completion)
        try:
            instance = reservation.instance
            self._notes.append(f"select worker (mixed): {instance.url}, count: {instance.running}")
            leg = SingleLeg(stream, reservation, self._context.pools, self._request, body, self._release, self._who)
            if self._is_full:
                leg.pause()
        except BaseException:
            self._release(reservation)
            raise
        return leg

    def _goes_from_dead(self, key: str, why: str) -> bool:
        """Go elsewhere, if the instance with ``key`` is to answer and hasn't begun."""
        reservation = self._reservation
        if reservation is None or reservation.instance.key != key or self._phase not in UNANSWERED:
            return False
        instance = reservation.instance
        self._telemetry.metrics.upstream_failed(instance.url, "dead")
        error = UpstreamError("dead", f"it is dead ({why})", instance=instance.url)
        self._attempt_failed(instance, error, error)
        return True

    # what the instance's connection calls

    def on_head(self, head: ResponseHead, body: bytes) -> None:
        """Pass the head on, with what came of the body."""
        status = head.status
        if status >= 300:
            if self._goes_elsewhere(head):
                return
        elif not self.record.stream and len(body) < head.length <= MAX_HELD and self._holds(head, body):
            return
        self._pass_on(head, body)

    def _holds(self, head: ResponseHead, body: bytes) -> bool:
        """Keep a completion that isn't streamed until it is whole: only its end tells whether it is one."""
        if self._context.endpoint.mode != "generate" or b"json" not in head.forward.lower():
            return False
        self._held = held = (head, [body])
        self._keep, self._outlet = held[1].append, NOWHERE
        return True

    def _pass_on(self, head: ResponseHead, body: bytes) -> None:
        """Pass an answer on from its beginning, unless it is a bad one, and another instance may give a better one."""
        status, reservation = head.status, self._reservation
        if status < 300 and reservation is not None:
            verdict = reservation.instance.dialect.judge("mixed", status, body, False)
            if verdict is not OK and self._is_bad(verdict) and self._bad_goes_elsewhere():
                return
        if self._phase is AWAITING:  # nearly always; the table has this move
            self._phase = STREAMING
        else:
            self._move(STREAMING)
        record, clock = self.record, self._context.clock
        record.first_byte_at = clock()
        if record.stream and body:
            record.status = status
            self._on_first_data()
        self._write_head(head, body)
        if reservation is not None:
            if status < 300:  # else it has been told
                instance = reservation.instance
                instance.answered_at = record.first_byte_at
                if (breaker := instance.breaker) is not None:
                    breaker.answered(status)
            if reservation.wants_usage:
                self._watch_usage(body)
        if (journal := self._journal) is not None:
            self._deliver_to(journal)
            journal.begun()

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        """Pass the whole answer on."""
        self._connection = None
        if head.status >= 300 and self._goes_elsewhere(head):
            return
        self._pass_on(head, body)
        if self._phase is not STREAMING or self._continuation is not None:
            return
        record = self.record
        if record.stream or self._usage is not None:
            self.on_complete()
        else:  # nearly always: it was judged by all of it
            record.finished_at = record.first_byte_at  # some µs ago, as in ``_on_sending``
            self._end("completed")

    on_data, on_bug = ResponseRelay.on_data, RoutedRequest.on_bug  # what UpstreamRequest declares would come first

    def on_complete(self) -> None:
        """The instance's answer is whole, and so is the client's."""
        self._connection = None
        if self._phase is not STREAMING and not self._end_hold():
            return
        if (reservation := self._reservation) is not None:
            if self.record.status < 300 and (flaw := self._judge_end(reservation.instance)):
                self._log_error(f"scanner error: {reservation.instance.url}: {flaw}")
            if self._usage is not None:
                self._tell_usage(reservation)
        self._end("completed")

    def _end_hold(self) -> bool:
        """Pass an answer on that was held until it was whole. Returns False when another instance is asked instead."""
        head, pieces = self._held
        self.record.bytes_out = 0  # as far as the client is concerned
        self._pass_on(head, b"".join(pieces))
        return self._phase is STREAMING

    def on_failed(self, error: UpstreamError, *, stale: bool) -> None:
        """The instance's answer won't come (try elsewhere) or broke off (let the client see it)."""
        self._connection = None
        if stale and self._may_replace():
            self._replace()
            return
        reservation = self._reservation
        if reservation is None:
            return
        self._telemetry.metrics.upstream_failed(error.instance, error.reason)
        has_begun = self._phase is STREAMING
        report_failure(reservation.instance, error, held_up=self._is_full, begun=has_begun and self.record.status < 400)
        if has_begun:
            self._break_off(error, reservation.instance)
        else:
            self._attempt_failed(reservation.instance, error, error)

    # steps

    def _goes_elsewhere(self, head: ResponseHead) -> bool:
        """Send the request to another instance, if one may do better than to answer so, and is there."""
        held, completion = self._reservation, self._completion
        if held is None or completion is None:
            return False
        instance = held.instance
        tell_status(instance, head, self._who)
        return self._resend(completion, instance, head.status, f"status {head.status}", forbids_retry(head))

    def _is_bad(self, verdict: Verdict) -> bool:
        """Whether an answer with a status of success that was judged so begins with an error, or was aborted."""
        return verdict is Verdict.ERROR and not self.is_abort_asked

    def _bad_goes_elsewhere(self) -> bool:
        """Send the request to another instance once: the error may be its own doing."""
        held, completion = self._reservation, self._completion
        if held is None or completion is None:
            return False
        if went := self._resend(completion, held.instance, 500, "an error in the answer", is_forbidden=False):
            held.instance.failed("error_answer")
        return went

    def _resend(self, completion: Completion, instance: Instance, status: int, what: str, is_forbidden: bool) -> bool:
        """Send the request to another instance than the one that answered so, if it may be, and one is there."""
        if not self._may_resend(instance, status, is_forbidden=is_forbidden):
            return False
        tried = (*self._excluded, instance.key)
        try:
            self._find_route()
            other = self._select(completion, tried) if self._route is None else self._select_by(self._route, tried)
        except SaturatedError:
            return self._waits_elsewhere(instance, status, what)
        except HttpError:  # nobody is there, or serves its model any more
            return False
        if other.instance.key in tried:
            other.release()
            return False
        try:
            self._leave_instance(instance, status, what)
        finally:  # it is what is held now, and to be given back, also if leaving met a bug
            self._reservation = other
        self._send_to(other)
        self._log_notes()
        return True

    def _waits_elsewhere(self, instance: Instance, status: int, what: str) -> bool:
        """Wait for room at another instance than the one that answered with ``status``, where requests can wait."""
        queue = self._queue
        if queue is None:
            return False
        self._leave_instance(instance, status, what)
        self._wait(queue, again=True)
        return True

    def _leave_instance(self, instance: Instance, status: int, what: str) -> None:
        """Give back what is held at the instance whose answer with ``status`` isn't passed on."""
        reason = "busy" if status in instance.dialect.busy_statuses else "error_answer"
        try:
            self._telemetry.metrics.upstream_failed(instance.url, reason)
            self._telemetry.metrics.retried(reason)
            self._note_failure(UpstreamError(reason, what, instance=instance.url, status=status))
        finally:
            self._end_attempt()
        self._excluded = (*self._excluded, instance.key)

    def _may_repeat(self, failed: Instance, error: UpstreamError) -> bool:  # noqa: ARG002
        """Return whether the instance surely did nothing for it; a silent one may be at work."""
        return error.retry is Retry.ALWAYS

    def _on_first_data(self) -> None:
        """A stream's first token came: the prefill is done."""
        if self._reservation is not None:
            if self.record.status < 400:
                self._reservation.first_token()
            self._prefill_done(self._reservation)
            self._log_notes()
