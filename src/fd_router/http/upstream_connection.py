"""One connection to an instance: a request goes out, the answer's bytes are handed on as they came.

llhttp checks the answer's syntax and framing; the body isn't decoded. What is handed on is the received
bytes, so a chunked stream keeps its framing and costs one parse and one write a read.

An instance mostly sends the same head again and again, but for the length of the body. A head that is the
same as the one before on its connection has been parsed already (``_receive_again``).
"""

from __future__ import annotations

import asyncio
import re
from typing import Protocol, cast

import httptools

from fd_router.config.live import LiveConfig
from fd_router.config.sections import ProxyConfig
from fd_router.errors import Retry, UpstreamError
from fd_router.http.deadlines import NEVER, DeadlineSweeper
from fd_router.http.heads import (
    END_OF_HEAD,
    HOP_BY_HOP,
    KnownHead,
    ResponseHead,
    connection_options,
    header_lines,
    without,
)
from fd_router.http.messages import Headers
from fd_router.http.write_batcher import Buffers, WriteBatcher

MAX_HEAD = 64 * 1024
"""Bytes of an answer's head. Engines send a few hundred."""

_INSPECTED = HOP_BY_HOP | {b"content-length", b"transfer-encoding", b"x-request-id"}
"""Headers that aren't handed on as they came. The request id is the router's to tell: it's the same one."""

_INTERIM = re.compile(rb"HTTP/[0-9]\.[0-9] 1")

_NOT_IN_REASON = re.compile(rb"[^\t -~\x80-\xff]")
"""Control characters, which the parser lets pass in a reason phrase only."""


class Listener(Protocol):
    """Who sent the request. Exactly one of ``on_complete``, ``on_whole`` and ``on_failed`` ends what ``send`` began."""

    def on_head(self, head: ResponseHead, body: bytes) -> None:
        """The head is complete; ``body`` is what of the (still framed) body came with it."""

    def on_data(self, data: bytes) -> None:
        """More of the body, framed as it came."""

    def on_complete(self) -> None:
        """The answer ended as it should. The connection is no longer the listener's."""

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        """The whole answer is there at once. The connection is no longer the listener's."""

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


class UpstreamSettings:
    """What the connections to all instances share, the options in force among it."""

    __slots__ = ("batcher", "options", "stall_timeout", "sweeper")

    def __init__(self, batcher: WriteBatcher, sweeper: DeadlineSweeper, live: LiveConfig) -> None:
        self.batcher = batcher
        self.sweeper = sweeper
        self.options: ProxyConfig
        self.stall_timeout: float  # seconds; an attribute of its own, since every read sets a deadline by it
        live.subscribe(ProxyConfig, self._on_options)

    def _on_options(self, options: ProxyConfig) -> None:
        self.options = options
        self.stall_timeout = options.stall_timeout_secs


class UpstreamConnection(asyncio.Protocol):
    """A connection to one instance, serving one request at a time.

    States: idle (no listener) → waiting (sent, no byte yet) → head → body → idle again, or closed.
    """

    __slots__ = (
        "_again", "_begun", "_complete", "_head", "_head_bytes", "_headers", "_in_body", "_inspected", "_known",
        "_listener",
        "_owner", "_parser", "_paused", "_reason", "_served", "_settings", "_time_limit", "_transport", "_unfit",
        "deadline",
    )  # fmt: skip

    def __init__(self, owner: Owner, settings: UpstreamSettings) -> None:
        self._owner = owner
        self._settings = settings
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._listener: Listener | None = None
        self._known: KnownHead | None = None  # the last head, if it may be used again …
        self._again = ResponseHead(0, b"")  # … and what it means
        self._served = 0  # answers completed
        self._paused = False
        self._time_limit = 0.0
        self.deadline = NEVER
        self._reset()

    def _reset(self) -> None:
        self._head: ResponseHead | None = None
        self._head_bytes = b""  # of a head that came in pieces
        self._reason = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._inspected: list[tuple[bytes, bytes]] = []
        self._begun = 0  # message beginnings seen since the request was sent
        self._complete = False
        self._in_body = False
        self._unfit = ""  # why an answer can't be passed on that the parser found nothing wrong with

    # what the listener calls

    def send(self, listener: Listener, message: bytes | Buffers, time_limit: float = 0.0) -> None:
        """Send a request. The listener hears of the answer, whose first byte may take ``time_limit`` (0: as usual)."""
        settings = self._settings
        self._listener = listener
        self._time_limit = time_limit or settings.options.first_byte_timeout_secs
        self.deadline = settings.sweeper.now + self._time_limit
        if self._transport is not None:
            if isinstance(message, bytes):
                settings.batcher.write(self._transport, message)
            else:
                settings.batcher.write_buffers(self._transport, message)
        else:
            self._lost(None)

    def pause(self) -> None:
        """Stop reading: the client is slower than the instance."""
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._paused and self._transport is not None:
            self._paused = False
            self.deadline = self._settings.sweeper.now + self._settings.stall_timeout
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
        self._settings.sweeper.add(self)
        self._owner.on_opened(self)

    def data_received(self, data: bytes) -> None:
        listener = self._listener
        if listener is None:  # an instance that speaks unasked is not to be trusted with a next request
            self.close()
            return
        if self._known is not None and not self._begun and self._receive_again(self._known, data, listener):
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise  # a bug of ours, not the instance's
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail("protocol", f"the answer isn't valid HTTP/1.1 ({error})")
            return
        if self._begun > 1:
            self._fail("protocol", "the answer is longer than it says")
            return
        if self._begun:  # not by an interim answer
            self.deadline = self._settings.sweeper.now + self._settings.stall_timeout
        if self._in_body:
            listener.on_data(data)
        else:
            self._receive_head(data, listener)
        if self._complete and self._listener is listener and self._head is not None:
            self._finish(listener, self._head.keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._settings.sweeper.discard(self)
        if self._listener is not None:
            self._lost(exc)
        self._owner.on_closed(self)

    def on_deadline(self) -> None:
        """Called by the sweeper: idle for too long, or the instance (or the client it waits for) stalled."""
        settings = self._settings
        if self._listener is None:
            self.close()
        elif self._paused:
            self._fail("stalled", f"the client took nothing for {settings.stall_timeout:g} s")
        elif not self._begun:
            self._fail("first_byte_timeout", f"no answer within {self._time_limit:g} s", status=504)
        else:
            self._fail("stalled", f"nothing came for {settings.stall_timeout:g} s in mid-answer", status=504)

    # what the parser calls

    def on_message_begin(self) -> None:
        self._begun += 1

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if (lower := name.lower()) in _INSPECTED:
            self._inspected.append((lower, value))
        else:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        headers: Headers = self._headers
        length, chunked, reusable = -1, False, self._parser.should_keep_alive()
        for name, value in self._inspected:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                if chunked or value.lower() != b"chunked":
                    self._unfit = "the answer has a transfer coding that nobody asked for"
                chunked = True
            elif name == b"connection" and (options := connection_options(value)):
                headers = without(headers, options)
        status = self._parser.get_status_code()
        if status in (204, 304) and (chunked or length >= 0):  # who says so may send a body all the same
            length, chunked, reusable = -1, False, False
        forward = b"HTTP/1.1 %d %b\r\n%b" % (status, _NOT_IN_REASON.sub(b"", self._reason), header_lines(headers))
        self._head = ResponseHead.of(status, forward, length, chunked=chunked, keep_alive=reusable)

    def on_message_complete(self) -> None:
        if self._head is not None and 100 <= self._head.status < 200 and self._begun == 1:  # not behind a final one
            so_far = self._head_bytes
            self._reset()  # an interim answer (RFC 9110 section 15.2) is nobody's business here
            self._head_bytes = so_far  # where it ends is seen when the rest of it is there
        else:
            self._complete = True

    # steps

    def _receive_again(self, known: KnownHead, data: bytes, listener: Listener) -> bool:
        """Take a whole answer whose head is the known one. The parser, between two messages, needn't see it."""
        body = known.body_of(data)
        if body is None:
            return False
        self._go_free(reusable=True)
        head = self._again
        listener.on_whole(head if len(body) == head.length else head.with_length(len(body)), body)
        return True

    def _receive_head(self, data: bytes, listener: Listener) -> None:
        first = not self._head_bytes
        data = self._head_bytes + data
        head = self._head
        if head is None:
            self._head_bytes = _after_interim_heads(data)
            if len(self._head_bytes) > MAX_HEAD:
                self._fail("protocol", f"the answer's head is longer than {MAX_HEAD} bytes")
            return
        if head.status < 200:  # a final one, or it would not be here
            self._fail("protocol", f"the answer's status is {head.status}")
            return
        self._head_bytes = b""
        data = _after_interim_heads(data)
        at = data.index(END_OF_HEAD) + 4
        if why := self._unfit or self._why_unfit(head, data, at):
            self._fail("protocol", why)
            return
        self._in_body = True
        if first and self._complete and head.keep_alive and not head.chunked and head.status not in (204, 304):
            self._known, self._again = KnownHead.learn(data, head.length), head
        listener.on_head(head, data[at:])

    def _why_unfit(self, head: ResponseHead, data: bytes, at: int) -> str:
        """Say what is wrong with an answer whose body begins at ``at``, although the parser let it pass."""
        if not data.startswith(b"HTTP/1.1 "):
            if not data.startswith(b"HTTP/1.0 "):
                return "the answer isn't HTTP/1.1"  # the parser knows RTSP and HTTP/2.0 as well
            if head.chunked:
                return "the answer is chunked, which HTTP/1.0 doesn't know"  # RFC 9112 section 6.1: faulty framing
        if at > MAX_HEAD:
            return f"the answer's head is longer than {MAX_HEAD} bytes"
        if 0 <= head.length < len(data) - at or (head.chunked and self._complete and data.endswith(b"\r\n\r\n\r\n")):
            return "the answer is longer than it says"  # by a line end, which the parser skips
        return ""

    def _finish(self, listener: Listener, reusable: bool) -> None:
        self._reset()
        self._go_free(reusable)
        listener.on_complete()

    def _go_free(self, reusable: bool) -> None:
        """The answer is complete, and the connection another's to use, if it can be used again."""
        self._listener = None
        self._served += 1
        if self._paused:
            self.resume()
        self.deadline = NEVER
        transport = self._transport
        if not reusable:
            self.close()
        elif transport is not None and not transport.is_closing():
            self._owner.on_reusable(self)

    def _lost(self, exc: Exception | None) -> None:
        why = (getattr(exc, "strerror", None) or str(exc)).lower() if exc else "the connection was closed"
        if not self._begun:
            self._fail("reset", f"{why} before an answer", Retry.ALWAYS, stale=self.is_reused)
        elif self._in_body and exc is None and self._head is not None and not self._head.is_delimited:
            if self._listener is not None:
                self._finish(self._listener, reusable=False)
        else:
            self._fail("cut_off", f"{why} in mid-answer")

    def _fail(
        self, reason: str, detail: str, retry: Retry = Retry.NEVER, *, status: int | None = None, stale: bool = False
    ) -> None:
        listener = self._listener
        self.cancel()
        if listener is not None:
            error = UpstreamError(reason, detail, instance=self._owner.url, retry=retry, status=status)
            listener.on_failed(error, stale=stale)

    def __repr__(self) -> str:
        if self._transport is None:
            state = "closed"
        elif self._listener is None:
            state = "idle"
        else:
            state = "body" if self._in_body else "head" if self._begun else "waiting"
        return f"<UpstreamConnection {self._owner.url} {state} served={self._served}>"


def _after_interim_heads(data: bytes) -> bytes:
    """Cut off 1xx heads, and blank lines, that came before the real one."""
    data = data.lstrip(b"\r\n")
    while _INTERIM.match(data) and (end := data.find(END_OF_HEAD)) >= 0:
        data = data[end + 4 :].lstrip(b"\r\n")
    return data
