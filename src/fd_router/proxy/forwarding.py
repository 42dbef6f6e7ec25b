"""What forwarding a request is in every mode: reading it, relaying the answer to its client, ending once.

The steps are synchronous callbacks of connections; there is no task on this path but the one that opens a
new connection when no kept one is free. What was taken on the way (counts of instances, connections) is
given back in ``_end``, once, whatever ended it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from fd_router.errors import BadRequestError, HttpError, NoInstanceError
from fd_router.instances.instance import Instance
from fd_router.messages import Request, error_response
from fd_router.proxy.dechunk import Dechunker
from fd_router.proxy.heads import ResponseHead
from fd_router.proxy.in_flight import InFlight
from fd_router.proxy.pool import Pools
from fd_router.scheduling.completion import Completion
from fd_router.scheduling.contract import Decision
from fd_router.telemetry.record import RequestRecord
from fd_router.telemetry.sanitize import context_tags
from fd_router.telemetry.telemetry import Telemetry


class Client(Protocol):
    """The connection a request came on, as its forwarding uses it."""

    def write(self, data: bytes) -> None:
        """Send bytes of the answer."""

    def respond_error(self, error: HttpError) -> None:
        """Send a whole error answer."""

    def complete(self, *, keep_alive: bool) -> None:
        """The answer has been written to its end; the connection may serve the next request."""

    def cut_off(self, *, delimited: bool) -> None:
        """End the connection so that the client sees that the answer is not whole."""


Prepare = Callable[[Completion], Awaitable[None] | None]
"""Makes a completion ready for its selection: at once (None), or by being awaited. Never fails."""


class Services:
    """What every forwarding needs, built once."""

    __slots__ = ("clock", "connection_failed", "in_flight", "max_attempts", "pools", "prepare", "telemetry")

    def __init__(
        self,
        connection_failed: Callable[[Instance, str], None],
        pools: Pools,
        telemetry: Telemetry,
        clock: Callable[[], float],
        max_attempts: int,
        in_flight: InFlight | None = None,
    ) -> None:
        self.in_flight = InFlight() if in_flight is None else in_flight
        self.connection_failed = connection_failed
        self.pools = pools
        self.telemetry = telemetry
        self.clock = clock
        self.max_attempts = max_attempts
        self.prepare: Prepare | None = None  # what must happen before a selection


class Forwarding:
    """One request's life: received → selected → sent → first byte → streaming → ended.

    A subclass says how an attempt is made (``_attempt``), held up, and abandoned.
    """

    __slots__ = (
        "_client", "_completion", "_is_dechunking", "_is_delimited", "_is_ended", "_is_full", "_keep_alive",
        "_notes", "_preparing", "_relay", "_request", "_services", "_tail", "_telemetry", "_tracked_id", "_tried",
        "record",
    )  # fmt: skip

    def __init__(self, request: Request, client: Client, record: RequestRecord, services: Services) -> None:
        self._request = request
        self._client = client
        self._services = services
        self._telemetry = services.telemetry
        self.record = record
        self._completion: Completion | None = None
        self._tried: tuple[str, ...] = ()  # keys of the instances that failed
        self._preparing: asyncio.Task[None] | None = None
        self._relay = client.write
        self._keep_alive = request.head.keep_alive
        self._is_delimited = True  # whether the client can tell a whole answer from a broken one
        self._is_dechunking = False
        self._is_full = False  # the client takes less than it is sent
        self._is_ended = False
        self._tracked_id = ""  # by which ``InFlight`` knows it
        self._tail = b""  # the last bytes of the body sent
        self._notes: list[str] = []

    # what the client's connection calls

    def start(self) -> None:
        """Read the request and send it where scheduling chooses."""
        record, request = self.record, self._request
        try:
            completion = Completion(request.body)
        except BadRequestError as error:
            record.tags = _tags(request, "", "")
            self._refuse(error)
            return
        self._completion = completion
        record.tags = completion.tags = _tags(request, completion.request_id, completion.session_id)
        record.stream = completion.stream
        if completion.request_id:
            self._track(completion.request_id)
        self._note("Parsing completed; starting worker selection.")
        prepare = self._services.prepare
        if prepare is not None and (preparation := prepare(completion)) is not None:
            self._log_notes()
            self._preparing = asyncio.get_running_loop().create_task(self._begin_after(preparation))
        else:
            self._begin()

    async def _begin_after(self, preparation: Awaitable[None]) -> None:
        await preparation
        self._preparing = None
        if not self._is_ended:  # the client may have left, or the request been aborted, meanwhile
            self._begin()

    def _begin(self) -> None:
        try:
            self._attempt()
        except (BadRequestError, NoInstanceError) as error:
            self._refuse(error)
        else:
            self._log_notes()

    def _track(self, request_id: str) -> None:
        """Make this findable by the id that the instances know the request by."""
        self._tracked_id = request_id
        self._services.in_flight.add(request_id, self)

    def on_client_gone(self) -> None:
        """The client closed its connection: no instance must go on for nobody."""
        if not self._is_ended:
            self.record.status = 499
            self._end("client_gone")

    def on_client_full(self) -> None:
        """The client is slower than the instance: stop reading from there."""
        self._is_full = True
        self._hold_up()

    def on_client_drained(self) -> None:
        """The client has caught up."""
        self._is_full = False
        self._go_on()

    # what the abort endpoint calls

    def instances(self) -> tuple[Instance, ...]:
        """Return the instances that work on the request now."""
        raise NotImplementedError

    def on_aborted(self) -> None:
        """The request was aborted. An engine mostly ends its answer itself; if it hasn't, tell the client."""
        if self._is_ended:
            return
        error = HttpError("The request was aborted by a call of /v1/abort_requests", status=499, code="aborted")
        if not self.record.bytes_out:
            self._refuse(error)
            return
        whole_events = self.record.stream and self._tail.endswith(b"\n\n\r\n") and not self._is_dechunking
        if whole_events:  # between two chunks of one event each: there is room for another one
            event = b"data: %b\n\n" % error_response(error).body
            self._client.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(event), event))
        self._end("completed" if whole_events else "failed")

    # what the modes differ in

    def _attempt(self) -> None:
        """Select and send. Raises NoInstanceError."""
        raise NotImplementedError

    def _abandon(self) -> None:
        """Give back all that is still held, connections and counts."""
        raise NotImplementedError

    def _hold_up(self) -> None:
        """Stop reading the answer."""
        raise NotImplementedError

    def _go_on(self) -> None:
        """Read the answer again."""
        raise NotImplementedError

    # the answer

    def _write_head(self, head: ResponseHead, body: bytes, extra: bytes = b"") -> None:
        """Pass the head on, with ``extra`` header lines and what came of the body."""
        request, record = self._request, self.record
        record.status = head.status
        self._is_delimited = head.is_delimited
        framing, connection = head.framing, b""
        if request.head.is_http_1_0:
            framing, connection = self._adapt_to_http_1_0(head)
        elif not (self._is_delimited and self._keep_alive):
            self._keep_alive = False
            connection = b"connection: close\r\n"
        start = b"%b%b%b%bx-request-id: %b\r\n\r\n" % (
            head.forward, framing, connection, extra, request.request_id.encode("latin-1"),
        )  # fmt: skip
        record.bytes_out += len(body)
        self._tail = body
        if self._is_dechunking:
            self._client.write(start)
            self._relay(body)
        else:  # one write, since each is a system call
            self._client.write(start + body)

    def _write_data(self, data: bytes) -> None:
        """Pass more of the body on."""
        self.record.bytes_out += len(data)
        self._tail = data
        self._relay(data)

    def _adapt_to_http_1_0(self, head: ResponseHead) -> tuple[bytes, bytes]:
        """Prepare for a client that knows no chunks. Returns the header lines for framing and connection."""
        if head.chunked:
            self._is_dechunking = True
            self._relay = Dechunker(self._client.write).feed
        if head.length < 0:
            self._keep_alive = self._is_delimited = False
            return b"", b""
        return head.framing, b"connection: keep-alive\r\n" if self._keep_alive else b""

    # giving back

    def _prefill_done(self, decision: Decision[Instance]) -> None:
        if decision.prefill_done():
            instance = decision.instance
            self._note(f"release prefill tokens: {instance.url}, tokens: {instance.tokens}")

    def _release(self, decision: Decision[Instance]) -> None:
        self._prefill_done(decision)
        if decision.release():
            instance = decision.instance
            self._note(f"release worker: {instance.url}, count: {instance.running}")

    # the log: lines that come in one turn are written in one go, which costs a fraction of one by one

    def _note(self, message: str) -> None:
        """Keep a line for the log, at info, until the end of this step."""
        self._notes.append(message)

    def _log_notes(self) -> None:
        if self._notes:
            notes, self._notes = self._notes, []
            self._telemetry.log.info_all(notes, self.record.tags)

    def _log_error(self, message: str) -> None:
        self._log_notes()
        self._telemetry.log.error(message, self.record.tags)

    # endings

    def _refuse(self, error: HttpError) -> None:
        """End with an error answer of the router's own."""
        self.record.status = error.status
        self._end("failed", error)

    def _end(self, outcome: str, error: HttpError | None = None) -> None:
        """Give everything back, write it down, and tell the client how it ended. Happens once."""
        if self._is_ended:
            return
        self._is_ended = True
        if self._tracked_id:
            self._services.in_flight.discard(self._tracked_id, self)
        try:
            self._abandon()
            self._write_down(outcome, error)
        finally:  # not even a bug in the above leaves a client waiting
            self._tell_client(outcome, error)

    def _write_down(self, outcome: str, error: HttpError | None) -> None:
        record = self.record
        if error is not None and error.status >= 500:
            self._log_error(error.message)
        if outcome == "completed":
            self._note("Request completed successfully.")
        else:
            self._note("Request completed with an error." + (f" {error.message}" if error is not None else ""))
        record.outcome = outcome
        record.finished_at = self._services.clock()
        self._telemetry.finish(record, self._notes)

    def _tell_client(self, outcome: str, error: HttpError | None) -> None:
        if error is not None:
            self._client.respond_error(error)
        elif outcome == "completed":
            self._client.complete(keep_alive=self._keep_alive)
        elif outcome == "failed":
            self._client.cut_off(delimited=self._is_delimited)

    def __repr__(self) -> str:
        head = self._request.head
        return f"<{type(self).__name__} {head.method} {head.path}{' ended' if self._is_ended else ''}>"


def _tags(request: Request, body_request_id: str, session_id: str) -> str:
    trace_id = request.head.traceparent[3:35].decode("latin-1")
    return context_tags(trace_id, body_request_id, session_id, request.request_id)
