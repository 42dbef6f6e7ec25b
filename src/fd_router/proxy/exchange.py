"""One request's life at one instance: received → selected → sent → first byte → streaming → ended.

What was taken on the way (the instance's counts, a connection) is given back in ``_end``, once, whatever
ended it. The steps are synchronous callbacks of the two connections; there is no task on this path but the
one that opens a new connection when no kept one is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Protocol

from fd_router.errors import BadRequestError, HttpError, NoInstanceError, Retry, UpstreamError
from fd_router.instances.instance import Instance
from fd_router.messages import Request
from fd_router.proxy.dechunk import Dechunker
from fd_router.proxy.heads import ResponseHead, request_head
from fd_router.proxy.pool import Pools
from fd_router.proxy.upstream import UpstreamConnection
from fd_router.scheduling.completion import Completion
from fd_router.scheduling.contract import Decision, RequestView
from fd_router.telemetry.sanitize import context_tags
from fd_router.telemetry.record import RequestRecord
from fd_router.telemetry.telemetry import Telemetry


class Client(Protocol):
    """The connection a request came on, as an exchange uses it."""

    def write(self, data: bytes) -> None:
        """Send bytes of the answer."""

    def write_chunk(self, data: bytes) -> None:
        """Send more bytes of an answer that comes piece by piece."""

    def respond_error(self, error: HttpError) -> None:
        """Send a whole error answer."""

    def complete(self, *, keep_alive: bool) -> None:
        """The answer has been written to its end; the connection may serve the next request."""

    def cut_off(self, *, delimited: bool) -> None:
        """End the connection so that the client sees that the answer is not whole."""


class ExchangeServices:
    """What every exchange needs, built once."""

    __slots__ = ("clock", "connection_failed", "max_attempts", "pools", "select", "telemetry")

    def __init__(
        self,
        select: Callable[[RequestView, Collection[str]], Decision[Instance]],
        connection_failed: Callable[[Instance, str], None],
        pools: Pools,
        telemetry: Telemetry,
        clock: Callable[[], float],
        max_attempts: int,
    ) -> None:
        self.select = select
        self.connection_failed = connection_failed
        self.pools = pools
        self.telemetry = telemetry
        self.clock = clock
        self.max_attempts = max_attempts


class Exchange:
    """Forwards one request to one instance, or to another one as long as no byte of an answer has come."""

    __slots__ = (
        "_client", "_completion", "_connecting", "_connection", "_decision", "_delimited", "_ended", 
        "_is_dechunking", "_keep_alive", "_paused", "_relay", "_request", "_services", "_tried", "record",
    )  # fmt: skip

    def __init__(self, request: Request, client: Client, record: RequestRecord, services: ExchangeServices) -> None:
        self._request = request
        self._client = client
        self._services = services
        self.record = record
        self._completion: Completion | None = None
        self._decision: Decision[Instance] | None = None
        self._connection: UpstreamConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._tried: set[str] | None = None
        self._relay = client.write_chunk
        self._keep_alive = request.head.keep_alive
        self._delimited = True  # whether the client can tell a whole answer from a broken one
        self._is_dechunking = False
        self._paused = False
        self._ended = False

    # what the client's connection calls

    def start(self) -> None:
        """Read the request and send it to the instance that scheduling chooses."""
        record, request = self.record, self._request
        try:
            completion = Completion(request.body)
        except BadRequestError as error:
            record.tags = _tags(request, "", "")
            self._refuse(error)
            return
        self._completion = completion
        record.tags = _tags(request, completion.request_id, completion.session_id)
        record.stream = completion.stream
        log = self._services.telemetry.log
        if log.info_on:
            log.info("Parsing completed; starting worker selection.", record.tags)
        try:
            self._attempt()
        except NoInstanceError as error:
            self._refuse(error)

    def on_client_gone(self) -> None:
        """The client closed its connection: the instance must not go on for nobody."""
        if not self._ended:
            self.record.status = 499
            self._end("client_gone")

    def on_client_full(self) -> None:
        """The client is slower than the instance: stop reading from there."""
        self._paused = True
        if self._connection is not None:
            self._connection.pause()

    def on_client_drained(self) -> None:
        """The client has caught up."""
        self._paused = False
        if self._connection is not None:
            self._connection.resume()

    # one attempt

    def _attempt(self) -> None:
        completion, services, record = self._completion, self._services, self.record
        assert completion is not None
        decision = services.select(completion, self._tried or ())
        self._decision = decision
        record.attempts += 1
        record.mixed = decision.instance.url
        log = services.telemetry.log
        if log.info_on:
            instance = decision.instance
            log.info(f"select worker (mixed): {instance.url}, count: {instance.running}", record.tags)
        if (connection := services.pools.of(decision.instance).acquire()) is not None:
            self._send(connection)
        else:
            self._connect()

    def _connect(self) -> None:
        assert self._decision is not None
        pool = self._services.pools.of(self._decision.instance)
        self._connecting = pool.connect(self._on_connected, self._on_refused)

    def _on_connected(self, connection: UpstreamConnection) -> None:
        self._connecting = None
        self._send(connection)

    def _on_refused(self, error: UpstreamError) -> None:
        self._connecting = None
        self._on_attempt_failed(error)

    def _send(self, connection: UpstreamConnection) -> None:
        assert self._decision is not None
        self._connection = connection
        if self._paused:
            connection.pause()
        head = request_head(self._request, self._decision.instance.key.encode())
        connection.send(self, head, self._request.body)

    def _on_attempt_failed(self, error: UpstreamError) -> None:
        """An attempt failed before any byte of an answer went to the client."""
        decision, services, record = self._decision, self._services, self.record
        assert decision is not None
        telemetry = services.telemetry
        telemetry.metrics.upstream_failed(error.instance, error.reason)
        telemetry.log.error(
            f"Request failed (attempt {record.attempts}/{services.max_attempts}): {error.instance}: {error.detail}",
            record.tags,
        )
        self._give_back(decision)
        if error.retry is Retry.ALWAYS:
            services.connection_failed(decision.instance, error.reason)
            if record.attempts < services.max_attempts:
                self._retry(decision.instance, error)
                return
        self._refuse(error)

    def _retry(self, failed: Instance, error: UpstreamError) -> None:
        if self._tried is None:
            self._tried = set()
        self._tried.add(failed.key)
        try:
            self._attempt()
        except NoInstanceError:  # the failed one was the last: its failure says more
            self._refuse(error)
        else:
            self._services.telemetry.metrics.retried(error.reason)

    # what the instance's connection calls

    def on_head(self, head: ResponseHead, body: bytes) -> None:
        """Pass the head on, with what came of the body."""
        request, record = self._request, self.record
        record.status = head.status
        record.first_byte_at = self._services.clock()
        self._delimited = head.is_delimited
        framing, connection = head.framing, b""
        if request.head.is_http_1_0:
            framing, connection = self._adapt_to_http_1_0(head)
        elif not (self._delimited and self._keep_alive):
            self._keep_alive = False
            connection = b"connection: close\r\n"
        start = b"%b%b%bx-request-id: %b\r\n\r\n" % (
            head.forward, framing, connection, request.request_id.encode("latin-1"),
        )  # fmt: skip
        if not self._is_dechunking:  # one write, since each is a system call
            self._client.write(start + body)
            if body:
                self._count(body)
        else:
            self._client.write(start)
            self.on_data(body)

    def on_data(self, data: bytes) -> None:
        """Pass more of the body on."""
        self._count(data)
        self._relay(data)

    def on_complete(self) -> None:
        """The instance's answer is whole, and so is the client's."""
        self._connection = None
        self._end("completed")

    def on_failed(self, error: UpstreamError, *, stale: bool) -> None:
        """The instance's answer won't come (try elsewhere) or broke off (let the client see it)."""
        self._connection = None
        if stale:
            self._connect()
        elif not self.record.first_byte_at:
            self._on_attempt_failed(error)
        else:
            telemetry = self._services.telemetry
            telemetry.metrics.upstream_failed(error.instance, error.reason)
            telemetry.log.error(f"scanner error: {error.instance}: {error.detail}", self.record.tags)
            self._end("failed")

    # steps

    def _count(self, data: bytes) -> None:
        record = self.record
        if not record.bytes_out and record.stream:
            record.first_byte_at = self._services.clock()  # engines send a stream's head before its first token
            self._prefill_done()
        record.bytes_out += len(data)

    def _adapt_to_http_1_0(self, head: ResponseHead) -> tuple[bytes, bytes]:
        """Prepare for a client that knows no chunks. Returns the header lines for framing and connection."""
        if head.chunked:
            self._is_dechunking = True
            self._relay = Dechunker(self._client.write_chunk).feed
        if head.length < 0:
            self._keep_alive = self._delimited = False
            return b"", b""
        return head.framing, b"connection: keep-alive\r\n" if self._keep_alive else b""

    def _refuse(self, error: HttpError) -> None:
        """End with an error answer of the router's own."""
        self.record.status = error.status
        self._end("failed", error)

    def _prefill_done(self) -> None:
        decision = self._decision
        if decision is not None and decision.prefill_done():
            log = self._services.telemetry.log
            if log.info_on:
                instance = decision.instance
                log.info(f"release prefill tokens: {instance.url}, tokens: {instance.tokens}", self.record.tags)

    def _give_back(self, decision: Decision[Instance]) -> None:
        self._prefill_done()
        if decision.release():
            log = self._services.telemetry.log
            if log.info_on:
                instance = decision.instance
                log.info(f"release worker: {instance.url}, count: {instance.running}", self.record.tags)

    def _end(self, outcome: str, error: HttpError | None = None) -> None:
        """Give everything back, tell the client how it ended, and write it down. Happens once."""
        if self._ended:
            return
        self._ended = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.cancel()
            self._connection = None
        if self._decision is not None:
            self._give_back(self._decision)
        self._log_ending(outcome, error)
        self.record.outcome = outcome
        self.record.finished_at = self._services.clock()
        self._services.telemetry.finish(self.record)
        if error is not None:
            self._client.respond_error(error)
        elif outcome == "completed":
            self._client.complete(keep_alive=self._keep_alive)
        elif outcome == "failed":
            self._client.cut_off(delimited=self._delimited)

    def _log_ending(self, outcome: str, error: HttpError | None) -> None:
        log = self._services.telemetry.log
        if error is not None and error.status >= 500:
            log.error(error.message, self.record.tags)
        if log.info_on:
            ending = "Request completed successfully." if outcome == "completed" else "Request completed with an error."
            log.info(ending, self.record.tags)

    def __repr__(self) -> str:
        where = self._decision.instance.key if self._decision is not None else "nowhere"
        return f"<Exchange {self._request.head.method} {self._request.head.path} at {where}{' ended' if self._ended else ''}>"


def _tags(request: Request, body_request_id: str, session_id: str) -> str:
    trace_id = request.head.traceparent[3:35].decode("latin-1")
    return context_tags(trace_id, body_request_id, session_id, request.request_id)
