"""The routed request: reading it, its attempts, and whether one that failed is made again, the same in both modes.

The steps are synchronous callbacks of connections; there is no task on this path but the one that opens a
new connection when no kept one is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final

from fd_router.engines.dialect import Dialect
from fd_router.errors import (
    HttpError,
    NoInstanceError,
    Retry,
    SaturatedError,
    UpstreamError,
)
from fd_router.http.client_stream import ClientStream
from fd_router.http.heads import ResponseHead
from fd_router.http.messages import Request
from fd_router.http.retry_fields import retry_after_secs
from fd_router.instances.instance import Instance
from fd_router.openai.completion import Completion
from fd_router.routing.context import RoutingContext
from fd_router.routing.continuable import ContinuableRequest
from fd_router.routing.log_tags import request_tags
from fd_router.routing.phase import ENDED, PREPARING, STREAMING
from fd_router.telemetry.record import RequestRecord

MAX_REFUSALS = 32
"""Instances that may refuse one request's connection, beside its attempts: a bound for the time that it may take."""

ANSWERS: Final = frozenset({"error_answer", "busy"})
"""Reasons of a failed attempt whose instance did answer."""


def report_failure(instance: Instance, error: UpstreamError, *, held_up: bool, begun: bool) -> None:
    """Tell the breaker of ``instance`` that it failed, ``begun``: in the middle of its answer.

    ``held_up``: nothing was read from it. Then it didn't stall, but waited for a client that took nothing.
    """
    if not (held_up and error.reason == "stalled"):
        instance.failed(error.reason, begun=begun)


def tell_status(instance: Instance, head: ResponseHead, client: str) -> None:
    """Tell ``instance`` what it is to be given after an answer to ``client`` with a status of 300 or more."""
    status, dialect = head.status, instance.dialect
    if status in dialect.busy_statuses:  # no failure: it wants a pause
        instance.on_busy(instance, retry_after_secs(head))
    elif instance.breaker is not None:
        if 400 <= status < 500:
            instance.breaker.refused(status, client)
        else:
            instance.breaker.answered(status)


def _answered_status(error: UpstreamError) -> int:
    """Return the status that an instance answered an attempt with, 0 if it didn't."""
    return error.status if error.reason in ANSWERS else 0


class RoutedRequest(ContinuableRequest):
    """A request that is prepared, queued where there is no room, and sent, again where an attempt fails.

    A subclass says how an attempt is made (``_attempt``), held up, and given back.
    """

    __slots__ = ("_excluded",)

    def __init__(self, context: RoutingContext, request: Request, client: ClientStream, record: RequestRecord) -> None:
        self._phase = PREPARING
        self._request = request
        self._client = client
        self._context = context
        self._telemetry = context.telemetry
        self.record = record
        self._completion = None
        self._ticket = None
        self._grant = None
        self._is_full = False
        self._tracked_id = ""
        self._recent = ()
        self._usage = None
        self._notes = []
        self._excluded: tuple[str, ...] = ()  # keys of the instances that failed
        self._died: tuple[Instance, ...] = ()  # those that were lost, once they had it all, without a word
        self._refusal = None
        self._preparing = None
        self.is_abort_asked = False  # by /v1/abort_requests: an engine that does so is right
        self._route = None
        self._journal = self._continuation = None
        self._asks = self._has_asked = False
        self._queue = context.queue

    # what the client's connection calls

    def _go_on(self, completion: Completion) -> None:
        """Send what has been read where scheduling chooses, once it is prepared for that."""
        record, request, context = self.record, self._request, self._context
        completion.notes = self._notes
        if request.head.session:
            completion.session_id = request.head.session
        record.tags = completion.tags = request_tags(
            request, completion.req_id, completion.session_id, completion.request_id
        )
        record.stream = stream = completion.stream
        if stream and context.streams is not None:
            self._asks = context.streams.asks(request)
        if completion.request_id:
            self._track(completion.request_id)
        explains = context.explain_header
        if explains != "off" and (explains == "always" or request.header(b"x-router-explain") == b"1"):
            completion.decisions = {}
        if context.models.choice is not None and not self._finds_route():
            return
        if context.precedence is not None and not self._has_precedence(context.precedence, completion):
            return
        self._notes.append("Parsing completed; starting worker selection.")
        if context.prepare is not None and (preparation := context.prepare(completion)) is not None:
            self._log_notes()
            self._preparing = asyncio.get_running_loop().create_task(self._begin_after(preparation))
        else:
            self._begin()

    async def _begin_after(self, preparation: Awaitable[None]) -> None:
        try:
            await preparation
        except Exception as error:  # noqa: BLE001  preparing never fails; if it does, its client is told
            self.on_bug(error)
        finally:
            self._preparing = None
        if self._phase is PREPARING and self._finds_route():  # the client may have left, or been aborted, meanwhile
            self._begin()

    def _begin(self) -> None:
        queue = self._queue
        if queue is not None and queue.waiting and queue.waiting > queue.hoping:  # nobody overtakes
            self._wait(queue)
            return
        try:
            self._attempt()
        except SaturatedError as error:
            self._wait_or_fail(error)
        except NoInstanceError as error:
            self._wait_for_probe(error)
        except HttpError as error:
            self._fail_locally(error)
        except Exception as error:  # noqa: BLE001  a plug-in's, for one: no client is left waiting
            self.on_bug(error)
        else:
            self._log_notes()

    def _track(self, request_id: str) -> None:
        """Make this findable by the id that its client, or this router, gave it."""
        self._tracked_id = request_id
        self._context.in_flight.add(request_id, self)

    def _leave(self, outcome: str) -> None:
        """Be no longer found, waited for, or counted against an API key; keep nothing of a stream that ended so."""
        if self._tracked_id:
            self._context.in_flight.discard(self._tracked_id, self)
        if self._ticket is not None:
            ticket, self._ticket = self._ticket, None  # no cycles: what is over is freed at once
            ticket.leave()
        try:
            if self._journal is not None:
                self._close_stream(outcome)
        finally:
            if self._grant is not None:
                self._grant.end(self._total_tokens() if self._grant.counts_tokens else None, self.record.bytes_out)

    def on_client_gone(self) -> None:
        """The client closed its connection: no instance must go on for nobody."""
        if self._phase is not ENDED:
            self.record.status = 499
            self._end("client_gone")

    def on_write_paused(self) -> None:
        """The client is slower than the instance: stop reading from there."""
        self._is_full = True
        self._pause_upstream()
        if self._continuation is not None:
            self._continuation.pause()

    def on_write_resumed(self) -> None:
        """The client has caught up."""
        self._is_full = False
        self._resume_upstream()
        if self._continuation is not None:
            self._continuation.resume()

    # what the abort endpoint calls

    @property
    def request_id(self) -> str:
        """The id that it is found by, its client's or one made here; else the one in the log."""
        return self._tracked_id or self._request.request_id

    @property
    def engine_id(self) -> str:
        """The id that its instances know it by now."""
        return self._tracked_id

    def on_aborted(self) -> None:
        """The request was aborted. An engine mostly ends its answer itself; if it hasn't, tell the client."""
        if self._phase is ENDED:
            return
        error = HttpError("The request was aborted by a call of /v1/abort_requests", status=499, code="aborted")
        if self._phase is not STREAMING:
            self._fail_locally(error)
            return
        event = self._context.endpoint.error_event(error)
        is_told = self.record.stream and self._client.send_event(event, self._last_sent)
        self._end("completed" if is_told else "failed")

    # what the modes differ in

    def _may_repeat(self, failed: Instance, error: UpstreamError) -> bool:
        """Return whether an attempt that failed so may be made again elsewhere, by what became of its instances."""
        raise NotImplementedError

    def _pause_upstream(self) -> None:
        """Stop reading the answer."""
        raise NotImplementedError

    def _resume_upstream(self) -> None:
        """Read the answer again."""
        raise NotImplementedError

    # an answer that has come to its end

    def _judge_end(self, instance: Instance) -> str:
        """Note what is wrong with the answer that was passed on, and return it; "" when nothing is."""
        recent, journal, dialect = self._recent, self._journal, instance.dialect
        if len(recent) == 1 and not self.record.stream:  # nearly always, and it was judged by all of it
            return ""
        if journal is not None and journal.is_sound and type(dialect).judge_end is Dialect.judge_end:
            return ""  # by what the journal has looked for
        flaw = dialect.judge_end(b"".join(recent) if journal is None else journal.recent())
        if not flaw or self.is_abort_asked:
            return ""
        self.record.flaw, self.record.outcome = flaw, "failed"
        self._telemetry.metrics.upstream_failed(instance.url, "error_answer")
        instance.failed("error_answer", begun=True)
        return flaw

    # another attempt

    def _attempt_failed(self, failed: Instance, error: UpstreamError, refusal: HttpError, role: str = "") -> None:
        """Make another attempt after one that ``failed`` ended before any byte went to the client, or none.

        ``refusal`` is what the client reads if there is none. ``role``: which of a pair failed.
        """
        context, reason = self._context, error.reason
        if reason == "refused" and self.record.sent_at:
            reason = "reset"  # it was sent over a kept connection, which was lost: only the second time it was refused
        self._note_failure(error, role)
        self._end_attempt()
        if error.retry is Retry.ALWAYS:
            context.connection_failed(failed, error.reason)
        if reason == "reset":
            self._died = (*self._died, failed)
        if self._is_poison():
            self._give_up_for_good(refusal)
        elif not self._may_repeat(failed, error) or self._exclude(failed, reason) >= self._max_attempts:
            self._give_up(refusal)
        elif not (self._is_in_doubt() and self._wait_for_certainty(refusal)):
            self._retry(error.reason, refusal)

    # requests under which instances die

    @property
    def _who(self) -> str:
        """Whose request it is, to tell those apart whom an instance refuses."""
        return f"{self.record.key} {self.record.client} {hash(self._request.head.authorization)}"

    def _may_replace(self) -> bool:
        """Whether it may be sent to the same instance again, whose kept connection turned out dead before any byte.

        Not once another was lost under it: then this may be another death, and the next send would be the third.
        """
        return not self._died

    @property
    def _max_attempts(self) -> int:
        return self._context.live.current.proxy.max_attempts

    def _note_failure(self, error: UpstreamError, role: str = "") -> None:
        """Write down that the attempt under way failed; ``role``: which of a pair did."""
        record = self.record
        culprit = f"{role} {error.instance}" if role else error.instance
        self._log_error(f"Request failed (attempt {record.attempts}/{self._max_attempts}): {culprit}: {error.detail}")
        record.attempt_failed(record.attempt(error.reason, self._context.clock(), _answered_status(error)))

    def _may_resend(self, instance: Instance, status: int, *, is_forbidden: bool, so_far: int = 0) -> bool:
        """Return whether a request may be sent to another instance that ``instance`` answered with ``status``.

        ``is_forbidden``: by the answer itself. ``so_far``: how many of the attempts written down are this one.
        """
        record = self.record
        resends = 0 if is_forbidden else instance.dialect.resends(status)
        if not resends or record.attempts >= self._max_attempts:
            return False
        return sum(attempt.status == status for attempt in record.failed_attempts) - so_far < resends

    def _exclude(self, failed: Instance, reason: str) -> int:
        """Make no attempt at ``failed`` while there is another. Returns how many attempts have been made.

        A first refusal doesn't count: nothing was sent, and it took no time. When many instances die at once, three
        attempts could all meet dead ones.
        """
        excluded, record = self._excluded, self.record
        if reason == "refused" and len(excluded) < MAX_REFUSALS and failed.key not in excluded:
            record.attempts -= 1
        self._excluded = (*excluded, failed.key)
        return record.attempts

    def _retry(self, reason: str, refusal: HttpError) -> None:
        try:
            self._find_route()
            self._attempt()
        except SaturatedError:
            self._telemetry.metrics.retried(reason)
            self._wait_or_fail(refusal, again=True)
        except NoInstanceError:  # the failed one was the last: its failure says more
            self._give_up(refusal)
        except HttpError as error:
            self._fail_locally(error)
        except Exception as error:  # noqa: BLE001  as in _begin
            self.on_bug(error)
        else:
            self._log_notes()
            self._telemetry.metrics.retried(reason)
