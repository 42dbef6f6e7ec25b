"""The clients' side: a connection's requests are answered one after the other, in the order they came."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Protocol, cast

from fd_router.config import ProxyConfig
from fd_router.errors import BadRequestError, HttpError
from fd_router.messages import Request, RequestHead, Response, Routes, error_response
from fd_router.proxy.control import ControlAnswer
from fd_router.proxy.deadlines import NEVER, DeadlineSweeper
from fd_router.proxy.forwarding import Client, Forwarding
from fd_router.proxy.heads import response_bytes
from fd_router.proxy.outbox import Outbox
from fd_router.proxy.reader import ReaderSettings, RequestReader
from fd_router.telemetry.record import RequestRecord
from fd_router.telemetry.telemetry import Telemetry

MAX_PIPELINED = 16
"""Requests that may wait behind the one being answered; then reading stops."""

MAX_CONTROL_BODY = 1024 * 1024
"""Bytes of a body sent to an endpoint that the router itself answers."""

LINGER_SECONDS = 2.0
"""How long a refused client may go on sending before it is cut off.

Closing while it still sends would reset the connection, and the client would lose the error it should read.
"""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""The value of SO_LINGER (on, 0 seconds) that makes a close send RST."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

StartExchange = Callable[[Request, Client, RequestRecord], Forwarding]
"""Begins the forwarding of a request."""


class Site:
    """What all connections share: routes, limits, clocks, telemetry, and the set of the connections."""

    def __init__(
        self,
        routes: Routes,
        inference: Mapping[str, StartExchange],
        settings: ProxyConfig,
        sweeper: DeadlineSweeper,
        outbox: Outbox,
        telemetry: Telemetry,
        clock: Callable[[], float],
        make_id: Callable[[], str],
    ) -> None:
        self.routes = routes
        self.inference = inference  # path → how an exchange for a POST there begins
        self.settings = settings
        self.sweeper = sweeper
        self.outbox = outbox
        self.telemetry = telemetry
        self.clock = clock
        self.reader = ReaderSettings(settings.max_head_kb * 1024, self.body_limit, clock, make_id)
        self.connections: set[ServerConnection] = set()
        self.is_draining = False

    def body_limit(self, path: str) -> int:
        """Return the most bytes that a body sent to ``path`` may have."""
        return self.settings.max_body_mb * 1024 * 1024 if path in self.inference else MAX_CONTROL_BODY

    def allowed(self, path: str) -> list[str]:
        """Return the methods that ``path`` knows, none for an unknown path."""
        methods = set(self.routes.get(path, ()))
        if "GET" in methods:
            methods.add("HEAD")
        if path in self.inference:
            methods.add("POST")
        return sorted(methods)

    def drain(self) -> None:
        """Close idle connections now, and the others after the answer they are waiting for."""
        self.is_draining = True
        for connection in list(self.connections):
            connection.close_if_idle()

    @property
    def busy(self) -> int:
        """Connections with a request under way."""
        return sum(not connection.is_idle for connection in self.connections)


class _Answer(Protocol):
    """An answer under way, told what happens to its client."""

    def on_client_gone(self) -> None: ...
    def on_client_full(self) -> None: ...
    def on_client_drained(self) -> None: ...


class ServerConnection(asyncio.Protocol):
    """One client's connection. The reader turns bytes into requests; they are answered one at a time."""

    __slots__ = (
        "_answer", "_client", "_is_full", "_is_lingering", "_is_paused", "_reader", "_record", "_request", "_serving",
        "_site", "_transport", "deadline",
    )  # fmt: skip

    def __init__(self, site: Site) -> None:
        self._site = site
        self._reader = RequestReader(site.reader)
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # until connection_made
        self._client = ""
        self._request: Request | None = None  # the one being answered
        self._answer: _Answer | None = None
        self._record: RequestRecord | None = None  # of a request that the router answers itself
        self._serving = False
        self._is_paused = False  # reading, because of too many requests in line
        self._is_full = False  # the client takes less than it is sent
        self._is_lingering = False
        self.deadline = NEVER

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._client = peer[0] if peer else ""
        self._site.connections.add(self)
        self._site.sweeper.add(self)
        self.deadline = self._site.sweeper.now + self._site.settings.client_idle_timeout_secs

    def data_received(self, data: bytes) -> None:
        reader, site = self._reader, self._site
        if self._is_lingering:
            return
        was = reader.state
        reader.feed(data)
        if self._request is None and reader.ready:
            self._serve()
        if reader.is_refused:
            pass  # nothing more is expected; the time to linger is set
        elif reader.state == reader.BODY:
            self._permit_body()
            self.deadline = site.sweeper.now + site.settings.client_body_timeout_secs
        elif reader.state == reader.HEAD and (was != reader.HEAD or self.deadline == NEVER):
            self.deadline = site.sweeper.now + site.settings.client_head_timeout_secs
        if len(reader.ready) > MAX_PIPELINED and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._site.connections.discard(self)
        self._site.sweeper.discard(self)
        self._reader.ready.clear()
        if self._answer is not None:
            answer, self._answer = self._answer, None
            answer.on_client_gone()
        if self._record is not None:
            self._record.outcome = "client_gone"
            self._finish_record(499)

    def pause_writing(self) -> None:
        self._is_full = True
        if self._answer is not None:
            self._answer.on_client_full()

    def resume_writing(self) -> None:
        self._is_full = False
        if self._answer is not None:
            self._answer.on_client_drained()

    def on_deadline(self) -> None:
        """Called by the sweeper: the client was too slow, or idle for too long."""
        reader, settings = self._reader, self._site.settings
        if self._request is not None:  # what follows it is late; it is not
            self.deadline = NEVER
        elif reader.state == reader.IDLE or reader.is_refused or self._is_lingering or self._transport.is_closing():
            self._transport.abort()
        else:
            in_body = reader.state == reader.BODY
            what = "body" if in_body else "head"
            limit = settings.client_body_timeout_secs if in_body else settings.client_head_timeout_secs
            reader.refuse(BadRequestError(f"Request timeout: its {what} took more than {limit:g} s", status=408))
            self._serve()

    # serving

    def _serve(self) -> None:
        """Answer what is ready. A loop, since an answer may be over when its beginning returns."""
        if self._serving:
            return
        self._serving = True
        ready = self._reader.ready
        try:
            while ready and self._request is None and not self._transport.is_closing():
                self._begin(ready.popleft())
        finally:
            self._serving = False
        if self._is_paused and not ready and not self._transport.is_closing():
            self._is_paused = False
            self._transport.resume_reading()

    def _begin(self, item: Request | HttpError) -> None:
        self.deadline = NEVER
        if isinstance(item, HttpError):
            self._refuse(item)
            return
        site = self._site
        self._request = item
        head = item.head
        if head.method == "POST" and (start := site.inference.get(head.path)) is not None:
            record = RequestRecord("POST", head.path, self._client, item.received_at, head.path)
            record.inference = True
            if head.is_http_1_0:
                record.http_version = "1.0"
            exchange = start(item, self, record)
            self._answer = exchange
            if self._is_full:
                exchange.on_client_full()
            exchange.start()
        else:
            self._control(item)

    def _control(self, request: Request) -> None:
        """Answer a request to the router itself."""
        site, head = self._site, request.head
        known = site.routes.get(head.path)
        allowed = site.allowed(head.path)
        endpoint = head.path if allowed else "unmatched"
        self._record = record = RequestRecord(head.method, endpoint, self._client, request.received_at, head.path)
        record.http_version = head.version
        method = "GET" if head.method == "HEAD" else head.method
        if known is not None and (handler := known.get(method)) is not None:
            self._answer = ControlAnswer(handler, request, self._respond, site.telemetry.log)
        elif allowed:
            error = BadRequestError(f"{head.method} is not allowed for {head.path}", status=405)
            error.headers = (("allow", ", ".join(allowed)),)
            self._respond(error_response(error))
        else:
            error = BadRequestError(f"There is nothing at {head.path}", status=404, code="not_found")
            self._respond(error_response(error))

    def _refuse(self, error: HttpError) -> None:
        """Answer what could not be understood, and close."""
        self._record = RequestRecord("-", "unmatched", self._client, self._site.clock(), "-")
        self._request = Request(RequestHead("-", "-", keep_alive=False))
        self._respond(error_response(error))

    def _permit_body(self) -> None:
        """Tell a client that asked (``Expect: 100-continue``) to send its body, once its turn has come."""
        reader = self._reader
        if reader.wants_continue and self._request is None and not reader.ready and not reader.is_refused:
            reader.wants_continue = False
            self.write(CONTINUE)

    def _respond(self, response: Response) -> None:
        """Send a whole answer made here."""
        request = self._request
        assert request is not None
        keep_alive = request.head.keep_alive and not self._site.is_draining
        data = response_bytes(
            response,
            request.request_id,
            close=not keep_alive,
            keep_alive_1_0=request.head.is_http_1_0,
            head_only=request.head.method == "HEAD",
        )
        self.write(data)
        if self._record is not None:
            self._record.bytes_out = len(response.body)
            self._finish_record(response.status)
        self.complete(keep_alive=keep_alive)

    def _finish_record(self, status: int) -> None:
        record, self._record = self._record, None
        if record is not None:
            record.status = status
            record.finished_at = self._site.clock()
            self._site.telemetry.finish(record)

    # what an exchange calls

    def write(self, data: bytes) -> None:
        """Send bytes of the answer."""
        self._site.outbox.write(self._transport, data)

    def respond_error(self, error: HttpError) -> None:
        """Send a whole error answer."""
        self._respond(error_response(error))

    def complete(self, *, keep_alive: bool) -> None:
        """The answer is written to its end: go on with the next request, or close."""
        self._answer = self._request = None
        if not keep_alive or self._site.is_draining:
            self._close_gently()
            return
        reader = self._reader
        if reader.ready:
            self._serve()
        elif reader.state == reader.IDLE:
            self.deadline = self._site.sweeper.now + self._site.settings.client_idle_timeout_secs
        else:  # the next request is half here
            self.deadline = self._site.sweeper.now + self._site.settings.client_head_timeout_secs
            self._permit_body()

    def cut_off(self, *, delimited: bool) -> None:
        """End the connection in mid-answer.

        A client that knows the answer's length or chunks sees that it isn't whole; another one sees it only
        when the connection is reset.
        """
        self._answer = self._request = None
        self._reader.ready.clear()
        self._site.outbox.flush()
        if delimited:
            self._close()
        else:
            self._reset()

    # closing

    @property
    def is_idle(self) -> bool:
        """Whether no request is being received or answered, or waits in line."""
        return self._request is None and not self._reader.ready and self._reader.state == self._reader.IDLE

    def close_if_idle(self) -> None:
        """Close unless a request is under way; then its answer is the last."""
        if self.is_idle:
            self._transport.close()

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        if self._request is not None:
            self._reset()
        else:
            self._transport.abort()

    def _reset(self) -> None:
        """Close by RST: a plain close sends FIN, which ends an answer without a length as if it were whole."""
        if (sock := self._transport.get_extra_info("socket")) is not None:
            with contextlib.suppress(OSError):  # the client may have been faster
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._transport.abort()

    def _close(self) -> None:
        """Close once everything is sent, which a client that takes nothing may put off, but not for ever."""
        self.deadline = self._site.sweeper.now + self._site.settings.client_idle_timeout_secs
        self._transport.close()

    def _close_gently(self) -> None:
        """Send what is written, then close; don't reset a client that is still sending."""
        self._reader.ready.clear()
        self._site.outbox.flush()
        if self._reader.state == self._reader.IDLE and not self._reader.is_refused:
            self._close()
            return
        self._is_lingering = True
        self.deadline = self._site.sweeper.now + LINGER_SECONDS
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def __repr__(self) -> str:
        state = "answering" if self._request is not None else "lingering" if self._is_lingering else "reading"
        return f"<ServerConnection {self._client} {state} {self._reader!r}>"
