"""One connection to an instance: a request goes out, the answer's bytes are handed on as they came.

llhttp checks the answer's syntax and framing; the body isn't decoded. What is handed on is the received
bytes, so a chunked stream keeps its framing and costs one parse and one write a read.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

import httptools

from fd_router.errors import Retry, UpstreamError
from fd_router.proxy.deadlines import NEVER, DeadlineSweeper
from fd_router.proxy.heads import END_OF_HEAD, HOP_BY_HOP, ResponseHead, connection_options

MAX_HEAD = 64 * 1024
"""Bytes of an answer's head. Engines send a few hundred."""

SMALL = 16 * 1024
"""Up to here joining head and body is cheaper than a scatter write."""


class Listener(Protocol):
    """Who sent the request. Exactly one of ``on_complete`` and ``on_failed`` ends what ``send`` began."""

    def on_head(self, head: ResponseHead, body: bytes) -> None:
        """The head is complete; ``body`` is what of the (still framed) body came with it."""

    def on_data(self, data: bytes) -> None:
        """More of the body, framed as it came."""

    def on_complete(self) -> None:
        """The answer ended as it should. The connection is no longer the listener's."""

    def on_failed(self, error: UpstreamError, *, stale: bool) -> None:
        """The answer won't come or won't end. ``stale``: a kept connection turned out dead before any byte."""


class Owner(Protocol):
    """Where connections live: the pool."""

    url: str

    def on_opened(self, connection: UpstreamConnection) -> None:
        """A new connection is there."""

    def on_reusable(self, connection: UpstreamConnection) -> None:
        """An exchange is over and the connection can serve another."""

    def on_closed(self, connection: UpstreamConnection) -> None:
        """The connection is gone."""


class UpstreamConnection(asyncio.Protocol):
    """A connection to one instance, serving one request at a time.

    States: idle (no listener) → waiting (sent, no byte yet) → head → body → idle again, or closed.
    """

    __slots__ = (
        "_begun", "_complete", "_connection_header", "_first_byte_timeout", "_head", "_head_bytes", "_in_body",
        "_listener", "_owner", "_parser", "_paused", "_served", "_stall_timeout", "_sweeper", "_transport", "_url",
        "deadline",
    )  # fmt: skip

    def __init__(
        self, owner: Owner, sweeper: DeadlineSweeper, *, first_byte_timeout: float, stall_timeout: float
    ) -> None:
        self._owner = owner
        self._url = owner.url
        self._sweeper = sweeper
        self._first_byte_timeout = first_byte_timeout
        self._stall_timeout = stall_timeout
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._listener: Listener | None = None
        self._served = 0  # answers completed
        self._paused = False
        self.deadline = NEVER
        self._reset()

    def _reset(self) -> None:
        self._head = ResponseHead()
        self._head_bytes = b""  # of a head that came in pieces
        self._connection_header = b""
        self._begun = 0  # message beginnings seen since the request was sent
        self._complete = False
        self._in_body = False

    # what the listener calls

    def send(self, listener: Listener, head: bytes, body: bytes) -> None:
        """Send a request. The listener hears of the answer."""
        transport = self._transport
        assert transport is not None
        assert self._listener is None
        self._listener = listener
        self.deadline = self._sweeper.now + self._first_byte_timeout
        if len(body) < SMALL:
            transport.write(head + body)
        else:
            transport.writelines((head, body))

    def pause(self) -> None:
        """Stop reading: the client is slower than the instance."""
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._paused and self._transport is not None:
            self._paused = False
            self.deadline = self._sweeper.now + self._stall_timeout
            self._transport.resume_reading()

    def cancel(self) -> None:
        """Forget the listener and close at once, so that the instance stops working for nobody."""
        self._listener = None
        self.close()

    def close(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request to send."""
        return self._listener is None and self._transport is not None and not self._transport.is_closing()

    @property
    def is_reused(self) -> bool:
        """Whether it has served before: its instance may have closed it meanwhile."""
        return self._served > 0

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._sweeper.add(self)
        self._owner.on_opened(self)

    def data_received(self, data: bytes) -> None:
        listener = self._listener
        if listener is None:  # an instance that speaks unasked is not to be trusted with a next request
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail("protocol", f"the answer isn't valid HTTP/1.1 ({error})")
            return
        if self._begun > 1:
            self._fail("protocol", "the answer is longer than it says")
            return
        self.deadline = self._sweeper.now + self._stall_timeout
        if self._in_body:
            listener.on_data(data)
        else:
            self._receive_head(data, listener)
        if self._complete and self._listener is listener:
            self._finish(listener)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._sweeper.discard(self)
        if self._listener is not None:
            self._lost(exc)
        self._owner.on_closed(self)

    def on_deadline(self) -> None:
        """Called by the sweeper: idle for too long, or the instance (or the client it waits for) stalled."""
        if self._listener is None:
            self.close()
        elif self._paused:
            self._fail("stalled", f"the client took nothing for {self._stall_timeout:g} s", Retry.NEVER)
        elif not self._begun:
            self._fail("first_byte_timeout", f"no answer within {self._first_byte_timeout:g} s", status=504)
        else:
            self._fail("stalled", f"nothing came for {self._stall_timeout:g} s in mid-answer", status=504)

    # what the parser calls

    def on_message_begin(self) -> None:
        self._begun += 1

    def on_status(self, reason: bytes) -> None:
        self._head.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        head, lower = self._head, name.lower()
        if lower in HOP_BY_HOP:
            if lower == b"connection":
                self._connection_header = value
            return
        if lower == b"content-length":
            head.length = int(value)
        elif lower == b"transfer-encoding":
            head.chunked = value.strip().lower().endswith(b"chunked")
        elif lower == b"x-request-id":  # the router's own, which is the same one, goes to the client
            return
        head.lines += (name, b": ", value, b"\r\n")

    def on_headers_complete(self) -> None:
        head, parser = self._head, self._parser
        head.status = parser.get_status_code()
        head.keep_alive = parser.should_keep_alive()
        if self._connection_header:
            options = connection_options(self._connection_header) - HOP_BY_HOP - {b"close"}
            if options:
                head.drop(options)

    def on_message_complete(self) -> None:
        if 100 <= self._head.status < 200:  # interim answers (RFC 9110 section 15.2) are nobody's business here
            self._head = ResponseHead()
            self._begun -= 1
        else:
            self._complete = True

    # steps

    def _receive_head(self, data: bytes, listener: Listener) -> None:
        if self._head_bytes:
            data = self._head_bytes + data
        if not self._head.status:
            self._head_bytes = _after_interim_heads(data)
            if len(self._head_bytes) > MAX_HEAD:
                self._fail("protocol", f"the answer's head is longer than {MAX_HEAD} bytes")
            return
        self._head_bytes = b""
        data = _after_interim_heads(data)
        self._in_body = True
        listener.on_head(self._head, data[data.index(END_OF_HEAD) + 4 :])

    def _finish(self, listener: Listener) -> None:
        reusable = self._head.keep_alive
        self._listener = None
        self._served += 1
        if self._paused:
            self.resume()
        self._reset()
        self.deadline = NEVER
        if not reusable:
            self.close()
        elif self.is_idle:
            self._owner.on_reusable(self)
        listener.on_complete()

    def _lost(self, exc: Exception | None) -> None:
        why = str(exc) if exc else "the connection was closed"
        if not self._begun:
            self._fail("reset", f"{why} before an answer", Retry.ALWAYS, stale=self.is_reused)
        elif self._in_body and not self._head.is_delimited and exc is None:
            self._complete, self._head.keep_alive = True, False
            assert self._listener is not None
            self._finish(self._listener)
        else:
            self._fail("cut_off", f"{why} in mid-answer")

    def _fail(
        self, reason: str, detail: str, retry: Retry = Retry.NEVER, *, status: int | None = None, stale: bool = False
    ) -> None:
        listener = self._listener
        self.cancel()
        if listener is not None:
            error = UpstreamError(reason, detail, instance=self._url, retry=retry, status=status)
            listener.on_failed(error, stale=stale)

    def __repr__(self) -> str:
        if self._transport is None:
            state = "closed"
        elif self._listener is None:
            state = "idle"
        else:
            state = "body" if self._in_body else "head" if self._begun else "waiting"
        return f"<UpstreamConnection {self._url} {state} served={self._served}>"


def _after_interim_heads(data: bytes) -> bytes:
    """Cut off 1xx heads that came before the real one."""
    while data.startswith(b"HTTP/1.1 1") and (end := data.find(END_OF_HEAD)) >= 0:
        data = data[end + 4 :]
    return data
