"""A small HTTP/1.1 server for mock instances: cheap, honest, and able to misbehave on purpose.

Keep-alive, pipelined requests answered in order, sized and chunked bodies both ways, ``Expect: 100-continue``,
HTTP/1.0 clients. A ``Call`` is one request and the means to answer it, at once or piece by piece.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import cast

import httptools

from fd_router.devtools.mock.request import MockRequest
from fd_router.http.messages import REASONS

MAX_PIPELINED = 64
"""Requests of one connection that may wait before reading pauses."""

BACKLOG = 4096
_NO_LINGER = struct.pack("ii", 1, 0)  # close() sends RST instead of FIN

Pairs = Iterable[tuple[str, str]]


class Call:
    """One request, and its answer. ``on_gone`` is called if the connection is lost before the answer ended."""

    __slots__ = ("_chunked", "_connection", "close_silently", "head_sent", "on_gone", "request")

    def __init__(self, connection: Connection, request: MockRequest) -> None:
        self._connection = connection
        self._chunked = False
        self.request = request
        self.head_sent = False
        self.close_silently = False  # close after the answer, without saying so in its head
        self.on_gone: Callable[[], None] | None = None

    @property
    def is_gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._connection.transport.is_closing()

    def respond(
        self,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        headers: Pairs = (),
        upto: int | None = None,
    ) -> None:
        """Send a whole answer; with ``upto``, only so many bytes of its body (the caller then drops the connection)."""
        head = self._head(status, content_type, headers, b"content-length: %d\r\n" % len(body))
        shown = b"" if self.request.method == "HEAD" else body[:upto]
        self._connection.write(head + shown)
        if upto is None:
            self.end()

    def begin(self, status: int, content_type: str, headers: Pairs = ()) -> None:
        """Send the head of an answer whose length isn't known."""
        self._chunked = not self.request.http_1_0
        self.request.keep_alive &= self._chunked  # HTTP/1.0: the connection's end is the body's
        framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        self._connection.write(self._head(status, content_type, headers, framing))

    def send(self, *pieces: bytes) -> None:
        """Send more of the body, each piece (not empty) as a chunk of its own."""
        if self._chunked:
            self._connection.write(b"".join([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]))
        else:
            self._connection.write(b"".join(pieces))

    def end(self) -> None:
        """The answer is complete."""
        if self._chunked:
            self._connection.write(b"0\r\n\r\n")
        self._connection.finished(self)

    def raw(self, data: bytes) -> None:
        """Send bytes as they are, HTTP or not."""
        self._connection.write(data)

    def drop(self, *, reset: bool) -> None:
        """End the connection without ending the answer: by RST, or by FIN after what was written."""
        self._connection.drop(reset=reset)

    def _head(self, status: int, content_type: str, headers: Pairs, framing: bytes) -> bytes:
        self.head_sent = True
        extra = "".join([f"{name}: {value}\r\n" for name, value in headers])
        if not self.request.keep_alive:
            extra += "connection: close\r\n"
        elif self.request.http_1_0:
            extra += "connection: keep-alive\r\n"
        start = f"HTTP/1.1 {status} {REASONS.get(status, '')}\r\n{self._connection.date}"
        lines = f"{start}content-type: {content_type}\r\n{extra}"
        return lines.encode("latin-1", "replace") + framing + b"\r\n"


class Connection(asyncio.Protocol):
    """One client's connection: a parser, the requests that wait, and the one being answered."""

    def __init__(self, server: MockServer, number: int) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Call] = deque()
        self._current: Call | None = None
        self._serving = False
        self._bad = False  # the bytes that follow can't be understood
        self._paused = False
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self.number = number
        self.idle_since = time.monotonic()
        self.transport: asyncio.Transport

    @property
    def date(self) -> str:
        """The Date header's line."""
        return self._server.date()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's isn't a subclass
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The client left, or we did: nobody waits for the answers any more."""
        self._server.connections.discard(self)
        self._queue.clear()
        call, self._current = self._current, None
        if call is not None and call.on_gone is not None:
            call.on_gone()

    def data_received(self, data: bytes) -> None:
        """Parse, then serve what is complete."""
        if self._bad:
            return
        self.idle_since = time.monotonic()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # an offer that is ignored; what follows it isn't parsed
            self._bad = True
            if self._queue:
                self._queue[-1].request.keep_alive = False
        except httptools.HttpParserError:
            self._bad = True
            request = MockRequest("", "")
            request.keep_alive = False
            self._queue.append(Call(self, request))
        self._serve()

    # What the parser calls.

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self._url = b""
        self._headers = []
        self._body = []

    def on_url(self, url: bytes) -> None:
        """Some or all of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The body follows, if there is one."""
        for name, value in self._headers:
            if name.lower() == b"expect" and value.lower() == b"100-continue" and self._current is None:
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Some or all of the body, without chunk framing."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """A whole request is here."""
        target = self._url.decode("latin-1")
        if not target.startswith("/"):  # absolute-form
            target = "/" + target.partition("://")[2].partition("/")[2]
        path, _, query = target.partition("?")
        request = MockRequest(
            self._parser.get_method().decode("ascii"), path, query, self._headers, b"".join(self._body)
        )
        request.http_1_0 = self._parser.get_http_version() == "1.0"
        request.keep_alive = self._parser.should_keep_alive()
        self._queue.append(Call(self, request))
        if len(self._queue) >= MAX_PIPELINED:
            self._paused = True
            self.transport.pause_reading()

    # What calls use.

    def write(self, data: bytes) -> None:
        """Send, unless the connection is ending."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def finished(self, call: Call) -> None:
        """``call`` is answered: go on with the next, or close."""
        self._current = None
        self.idle_since = time.monotonic()
        if call.close_silently or not call.request.keep_alive:
            self._queue.clear()
            self.transport.close()
        elif not self._serving:  # else the loop in _serve goes on: no recursion, however many are pipelined
            self._serve()

    def drop(self, *, reset: bool) -> None:
        """End the connection: by RST, once what was written had a moment to leave; or by FIN after all of it."""
        if not reset:
            self.transport.close()
        elif self.transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(0.01, self._reset)
        else:
            self._reset()

    def _reset(self) -> None:
        sock = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # the client may have been faster
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()

    @property
    def serves(self) -> str:
        """The path of the request that is being answered; "" if none is."""
        return self._current.request.path if self._current is not None else ""

    def is_idle(self, since: float) -> bool:
        """Whether nothing is being answered, and nothing came since then."""
        return self._current is None and self.idle_since <= since

    def _serve(self) -> None:
        self._serving = True
        while self._current is None and self._queue and not self.transport.is_closing():
            call = self._queue.popleft()
            self._current = call
            if call.request.method:
                self._server.handle(call, self.number)
            else:
                self._server.refuse(call)
        self._serving = False
        if self._paused and len(self._queue) < MAX_PIPELINED and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()


class MockServer:
    """Listens, and knows its connections. ``handle`` gets each call with its connection's number.

    ``refuse`` gets a call for bytes that can't be parsed; its request is empty and its connection ends after it.
    """

    def __init__(
        self, handle: Callable[[Call, int], None], refuse: Callable[[Call], None], keep_alive_secs: float = 5.0
    ) -> None:
        self.handle = handle
        self.refuse = refuse
        self.connections: set[Connection] = set()
        self.accepted = 0
        self.host = ""
        self.port = 0
        self._keep_alive_secs = keep_alive_secs
        self._listener: asyncio.Server | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._date = ""
        self._date_second = 0

    async def open(self, host: str, port: int) -> None:
        """Listen; port 0 takes a free one. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._accept, host, port, backlog=BACKLOG)
        self.host = host
        self.port = self._listener.sockets[0].getsockname()[1]
        if self._sweep is None:
            self._sweep_idle()

    def stop_listening(self) -> None:
        """Refuse new connections from now on; open ones stay."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def listen_again(self) -> None:
        """Take new connections again, at the same address."""
        if self._listener is None:
            await self.open(self.host, self.port)

    def close(self) -> None:
        """Stop listening and end every connection."""
        self.stop_listening()
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self.connections):
            connection.transport.abort()

    def date(self) -> str:
        """Return the Date header's line, made anew once a second."""
        now = int(time.time())
        if now != self._date_second:
            self._date_second = now
            self._date = f"date: {formatdate(now, usegmt=True)}\r\n"
        return self._date

    def _accept(self) -> Connection:
        self.accepted += 1
        return Connection(self, self.accepted)

    def _sweep_idle(self) -> None:
        """Close connections idle for too long: one coarse timer for all of them."""
        since = time.monotonic() - self._keep_alive_secs
        for connection in [each for each in self.connections if each.is_idle(since)]:
            connection.transport.close()
        period = min(1.0, self._keep_alive_secs / 2)
        self._sweep = asyncio.get_running_loop().call_later(period, self._sweep_idle)
