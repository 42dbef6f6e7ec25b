"""The two halves of a disaggregated request: what each listens for, until the pair has decided.

A leg owns its reservation and gives it back: prefill's as soon as its work is done, decode's with the request.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Protocol

import msgspec

from fd_router.engines.dialect import OK, Role, Verdict
from fd_router.engines.error_answers import error_message
from fd_router.errors import Retry, UpstreamError
from fd_router.http.connection_pool import InstancePool
from fd_router.http.heads import ResponseHead
from fd_router.http.messages import Request
from fd_router.http.retry_fields import forbids_retry, retry_after_secs
from fd_router.http.upstream_connection import UpstreamConnection
from fd_router.http.upstream_contract import BodyTaker
from fd_router.http.upstream_request import UpstreamRequest
from fd_router.http.write_batcher import Buffers
from fd_router.instances.instance import Instance
from fd_router.routing.request import report_failure
from fd_router.scheduling.reservation import Reservation
from fd_router.spliced_body import Body

MAX_GATHERED = 8 * 1024 * 1024
"""Bytes of an answer that are held back to look at its end; a longer one goes to the client unseen."""


Answer = tuple[ResponseHead, bytes]
"""A whole answer: its head, and its body as it came."""


class Pair(Protocol):
    """The request, as its legs tell it what happens."""

    def on_leg_sent(self, leg: PairLeg) -> None:
        """The request of a leg that had to wait for a connection is on its way."""

    def may_replace(self) -> bool:
        """Whether a leg may be sent again, whose kept connection turned out dead."""

    def on_leg_failed(self, leg: PairLeg, error: UpstreamError, answer: Answer | None = None) -> None:
        """The instance failed; whether that matters is the pair's to say. ``answer``: what it said of it, if it did."""

    def on_bug(self, error: Exception) -> None:
        """A bug was met on the way of a leg."""

    def on_leg_refused(self, leg: PairLeg, answer: Answer) -> None:
        """The instance answered 4xx, which is the client's to read."""

    def on_prefill_done(self, leg: PrefillLeg, head: ResponseHead, answer: bytes) -> None:
        """The prefill instance has done its work; ``answer`` is its body, if the leg keeps it."""

    def on_decode_begun(self, leg: DecodeLeg, head: ResponseHead, body: bytes) -> None:
        """The answer's first bytes are there, and they aren't an error."""

    def on_decode_data(self, data: bytes) -> None:
        """More of the answer."""

    @property
    def is_abort_asked(self) -> bool:
        """Whether its instances were told to abort it."""

    def on_given_back(self, leg: DecodeLeg, head: ResponseHead, body: bytes) -> None:
        """The whole answer is there, and gives the request back: it is to be scheduled again."""

    def on_decode_complete(self, leg: DecodeLeg) -> None:
        """The answer that had begun is complete."""


class PairLeg(UpstreamRequest, msgspec.Struct, eq=False):
    """One leg: a ``Listener`` of its connection that holds back bytes until it is known what they mean.

    A Struct, because two are made for each request, of two classes: ``__init__`` would cost five times as much.
    """

    role: ClassVar[Role] = "mixed"

    _pair: Pair
    reservation: Reservation[Instance]
    is_streamed: bool  # as it was asked for; once its head is there, as it is
    _pool: InstancePool
    _request: Request  # with the head that the instance gets
    _time_limit: float = 0.0
    is_sent: bool = False  # its request is on its way, or was
    is_over: bool = False  # its answer came to an end, or it was cancelled
    _is_late: bool = False  # no kept connection could take it
    _is_given_back: bool = False  # by the first event of its stream
    _has_begun: bool = False  # something of its body came, and wasn't an error
    _is_full: bool = False
    _is_due_later: bool = False  # it is counted by its pool although there is no connection yet
    _head: ResponseHead | None = None
    _gathered: list[bytes] | None = None  # what is held back of its body
    _size: int = 0
    _connection: UpstreamConnection | None = None
    _connecting: asyncio.Task[None] | None = None
    _body: Body = b""  # what is sent, from ``start`` on

    @property
    def instance(self) -> Instance:
        """The instance that was chosen."""
        return self.reservation.instance

    @property
    def is_awaited(self) -> bool:
        """Whether something of its answer is still to come that matters."""
        return not (self.is_over or self._has_begun)

    def wait(self) -> None:
        """Be one that will be sent, but not yet: its instance's count is right although nothing is under way there."""
        if not self.is_over:
            self._is_due_later = True
            self._pool.awaited += 1

    def start_late(self, body: Body) -> None:
        """Send the request that waited."""
        self._wait_no_more()
        self.start(body)

    def _wait_no_more(self) -> None:
        if self._is_due_later:
            self._is_due_later = False
            self._pool.awaited -= 1

    def start(self, body: Body) -> None:
        """Send the request, with the ``body`` that is the pair's."""
        self._body = body
        self._dispatch()

    def _on_connecting(self) -> None:
        self.is_sent, self._is_late = False, True

    def _on_sending(self) -> bytes | Buffers:
        self.is_sent = True
        if self._is_late:  # else whoever starts both sees it
            self._pair.on_leg_sent(self)
        pool = self._pool
        message = pool.message
        return message(self._request, pool.host, self._body)

    def cancel(self) -> None:
        """Close the connection at once."""
        self.is_over = True
        self._wait_no_more()
        self._cancel()

    def deliver_to(self, taker: BodyTaker) -> None:
        """Have the rest of the answer's body given to ``taker`` alone."""
        self._deliver_to(taker)

    # what the connection calls

    def on_bug(self, error: Exception) -> None:
        """Have the pair end."""
        self.is_over = True
        self._pair.on_bug(error)

    def on_head(self, head: ResponseHead, body: bytes) -> None:
        """Keep the head until it is known what follows."""
        self._head, status = head, head.status
        if status < 300:  # what is more: at its end
            self.is_streamed = head.is_streamed(asked=self.is_streamed)
            if (breaker := self.reservation.instance.breaker) is not None:
                breaker.answered(status)
        if not body:
            return
        if status >= 300:
            self._gather_error(status, body)
        else:
            self._on_good_data(head, body)

    def on_data(self, data: bytes) -> None:
        """Take more of the body."""
        head = self._head
        if head is None:
            return
        if head.status >= 300:
            self._gather_error(head.status, data)
        else:
            self._on_good_data(head, data)

    def on_complete(self) -> None:
        """Say what the whole answer means."""
        self.is_over, self._connection = True, None
        head = self._head
        if head is None:
            return
        gathered = self._gathered or ()
        body = gathered[0] if len(gathered) == 1 else b"".join(gathered)
        if head.status >= 300:
            self._on_bad_end(head, body)
        else:
            self._on_good_end(head, body)

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        """Say what the answer means that is there at once."""
        self.is_over, self._connection = True, None
        status = head.status
        if status >= 300:
            self._on_bad_end(head, body)
            return
        if (breaker := self.reservation.instance.breaker) is not None:
            breaker.answered(status)
        self._on_good_whole(head, body)

    def on_failed(self, error: UpstreamError, *, stale: bool) -> None:
        """Replace a kept connection that turned out dead, or say that the instance failed."""
        self._connection = None
        if stale and self._pair.may_replace():
            self._replace()
            return
        self.is_over = True
        begun = self._head is not None and self._head.status < 400
        report_failure(self.instance, error, held_up=self._is_full, begun=begun)
        self._pair.on_leg_failed(self, error)

    def _on_bad_end(self, head: ResponseHead, body: bytes) -> None:
        self._on_bad_verdict(self.reservation.instance.dialect.judge(self.role, head.status, body, True), head, body)

    def _on_bad_verdict(self, verdict: Verdict, head: ResponseHead, body: bytes) -> None:
        status = head.status
        if verdict is Verdict.CLIENT_ERROR or verdict is OK:
            self._pair.on_leg_refused(self, (head, body))
        elif verdict is Verdict.BUSY:
            self.instance.on_busy(self.instance, retry_after_secs(head))
            self._fail_with(head, body, f"status {status}: it is busy", "busy")
        else:
            self.instance.failed(f"status {status}")
            self._fail_with(head, body, f"status {status}")

    # what the legs differ in

    def _on_good_data(self, head: ResponseHead, data: bytes) -> None:
        raise NotImplementedError

    def _on_good_end(self, head: ResponseHead, body: bytes) -> None:
        raise NotImplementedError

    def _on_good_whole(self, head: ResponseHead, body: bytes) -> None:
        raise NotImplementedError

    # steps

    def _gather(self, data: bytes) -> None:
        if self._size <= MAX_GATHERED:
            if self._gathered is None:
                self._gathered = []
            self._gathered.append(data)
            self._size += len(data)

    def _gather_error(self, status: int, data: bytes) -> None:
        """Keep an error answer, which is passed on whole or not at all."""
        self._gather(data)
        if self._size > MAX_GATHERED:
            self.instance.failed(f"status {status}")
            self._fail(self._error("error_answer", f"status {status}, and more than {MAX_GATHERED >> 20} MB", status))

    def _error(self, reason: str, what: str, status: int) -> UpstreamError:
        return UpstreamError(reason, what, instance=self.instance.url, retry=Retry.NEVER, status=status)

    def _fail(self, error: UpstreamError, answer: Answer | None = None) -> None:
        """The instance answered, but with an error of its own."""
        self.cancel()
        self._pair.on_leg_failed(self, error, answer)

    def _fail_with(self, head: ResponseHead, body: bytes, what: str, reason: str = "error_answer") -> None:
        """The instance answered with the status of an error."""
        error = self._error(reason, what, head.status)
        error.may_be_repeated = error.may_be_repeated and not forbids_retry(head)
        self._fail(error, (head, body))

    def _fail_within(self, body: bytes) -> None:
        """The instance answered with a status of success, and an error behind it."""
        error = self._error("error_answer", "an error in the answer", 502)
        error.said = error_message(body)
        self._fail(error)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.instance.url}{' over' if self.is_over else ''}>"


class PrefillLeg(PairLeg):
    """Its answer is drained, or kept for decode. A stream's first byte, or another answer's end, ends the prefill."""

    role: ClassVar[Role] = "prefill"

    keeps_answer: bool = False  # decode is sent what it says

    def _on_good_data(self, head: ResponseHead, data: bytes) -> None:
        if self.keeps_answer:
            self._gather(data)
        if self._has_begun:
            return
        self._has_begun = True
        if self.reservation.instance.dialect.judge("prefill", head.status, data, False) is not OK:
            self._fail_within(data)
        elif self.is_streamed and not self.keeps_answer:
            self._pair.on_prefill_done(self, head, b"")

    def _on_good_end(self, head: ResponseHead, body: bytes) -> None:
        if self.keeps_answer or not (self.is_streamed and self._has_begun):  # else it was told at the first byte
            self._pair.on_prefill_done(self, head, body)

    def _on_good_whole(self, head: ResponseHead, body: bytes) -> None:
        if self.reservation.instance.dialect.judge("prefill", head.status, body, True) is not OK:
            self._fail_within(body)
        else:
            self._pair.on_prefill_done(self, head, body)


class DecodeLeg(PairLeg):
    """Its answer is the client's: a stream's from the first bytes on, another one's when it is whole."""

    role: ClassVar[Role] = "decode"

    def on_data(self, data: bytes) -> None:
        """Take more of the body."""
        if self._has_begun:
            self._pair.on_decode_data(data)
        else:
            super().on_data(data)

    def _on_good_data(self, head: ResponseHead, data: bytes) -> None:
        if not self._gathered:
            verdict = self.reservation.instance.dialect.judge("decode", head.status, data, False)
            if verdict is Verdict.GIVEN_BACK:
                self._is_given_back = True  # of that only the whole tells
            elif self._is_error(verdict):
                self._fail_within(data)
                return
        if (self.is_streamed and not self._is_given_back) or self._size + len(data) > MAX_GATHERED:
            self._has_begun = True
            held, self._gathered = b"".join(self._gathered or ()), None
            self._pair.on_decode_begun(self, head, held + data)
        else:
            self._gather(data)

    def _on_bad_end(self, head: ResponseHead, body: bytes) -> None:
        verdict = self.reservation.instance.dialect.judge("decode", head.status, body, True)
        if verdict is Verdict.GIVEN_BACK:
            self._pair.on_given_back(self, head, body)
        else:
            self._on_bad_verdict(verdict, head, body)

    def _on_good_end(self, head: ResponseHead, body: bytes) -> None:
        if self._has_begun:
            self._pair.on_decode_complete(self)
        else:
            self._on_good_whole(head, body)

    def _on_good_whole(self, head: ResponseHead, body: bytes) -> None:
        verdict, pair = self.reservation.instance.dialect.judge("decode", head.status, body, True), self._pair
        if verdict is not OK:  # seldom
            if verdict is Verdict.GIVEN_BACK:
                pair.on_given_back(self, head, body)
                return
            if self._is_error(verdict):
                self._fail_within(body)
                return
        pair.on_decode_begun(self, head, body)
        pair.on_decode_complete(self)

    def _is_error(self, verdict: Verdict) -> bool:
        """Whether an answer that was judged so is an error, and no abort that was asked for."""
        return verdict is Verdict.ERROR and not self._pair.is_abort_asked


def blame(leg: PairLeg, error: UpstreamError) -> UpstreamError:
    """Make the error that names the guilty leg."""
    blamed = UpstreamError(error.reason, error.detail, instance=error.instance, status=error.status)
    blamed.message = f"Failed to connect to backend service: {leg.role} instance {error.instance}: {error.detail}"
    blamed.said, blamed.headers, blamed.may_be_repeated = error.said, error.headers, error.may_be_repeated
    return blamed
