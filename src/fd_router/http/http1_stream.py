"""The stream of one answer on an HTTP/1.x connection: framing, keep-alive, and what an HTTP/1.0 client doesn't know."""

from __future__ import annotations

from typing import Protocol

from fd_router.errors import HttpError
from fd_router.http.chunks import LAST_CHUNK, chunk
from fd_router.http.client_stream import BodyOutlet
from fd_router.http.dechunk import Dechunker
from fd_router.http.heads import ResponseHead
from fd_router.http.messages import Request


class Http1Connection(Protocol):
    """The connection that the request came on."""

    def respond_error(self, error: HttpError) -> None:
        """Send a whole error answer."""

    def complete(self, keep_alive: bool) -> None:
        """The answer has been written to its end; the connection may serve the next request."""

    def cut_off(self, *, delimited: bool) -> None:
        """End the connection so that the client sees that the answer is not whole."""

    def abort(self) -> None:
        """End the connection at once."""


class Http11Stream:
    """A ``ClientStream`` that passes the instance's framed bytes on untouched: each is one call of the connection.

    One serves all requests of its connection, whose answers follow each other.
    """

    __slots__ = ("_connection", "_head", "_keep_alive", "outlet", "request")

    request: Request
    """That is being answered. To be set before anything is sent."""

    def __init__(self, connection: Http1Connection, outlet: BodyOutlet) -> None:
        """``outlet``: the connection's."""
        self._connection = connection
        self.outlet = outlet
        self._head: ResponseHead | None = None  # of the answer under way, once it is sent
        self._keep_alive = True  # behind that answer

    def on_drain(self) -> None:
        """Make the answer the connection's last, which its head says, if that is yet to come."""
        if self._head is None:
            self._keep_alive = False

    def send_head(self, head: ResponseHead, body: bytes, extra: bytes = b"") -> None:
        """Send an instance's head with ``extra`` header lines, and what of the body came with it."""
        self._head = head
        request, connection = self.request, b""
        asked = request.head
        if not (head.is_delimited and self._keep_alive and asked.keep_alive):
            self._keep_alive = False
            connection = b"connection: close\r\n"
        self.outlet.write(b"".join((  # one write, since each is a system call
            head.forward, head.framing, connection, asked.cors, extra, b"x-request-id: ",
            request.request_id.encode("latin-1"), b"\r\n\r\n", body,
        )))  # fmt: skip

    def send_event(self, event: bytes, last: bytes) -> bool:
        """Send one more event as a chunk of its own, behind one that ends with a whole event, and the last chunk."""
        if not self._may_follow(last):
            return False
        self.outlet.write(chunk(event) + LAST_CHUNK)
        return True

    def send_error(self, error: HttpError) -> None:
        """Send a whole error answer."""
        self._connection.respond_error(error)

    def end(self) -> None:
        """The answer has been sent to its end."""
        self._head = None
        self._connection.complete(self._keep_alive)

    def reset(self) -> None:
        """End in mid-answer: by a plain close where the client knows the length or the chunks, else by a reset."""
        self._connection.cut_off(delimited=self._is_delimited())

    def abandon(self) -> None:
        """End at once, however far the answer has come."""
        self._connection.abort()

    def _is_delimited(self) -> bool:
        return self._head is None or self._head.is_delimited

    def _may_follow(self, last: bytes) -> bool:
        return self._head is not None and self._head.chunked and last.endswith(b"\n\n\r\n")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.request.head.path}{' begun' if self._head is not None else ''}>"


class _DechunkingOutlet(Dechunker):
    """Takes chunks, and writes what is in them."""

    __slots__ = ()

    write = Dechunker.feed


class Http10Stream(Http11Stream):
    """One to an HTTP/1.0 client, who knows no chunks: they are taken out, and the end is the connection's."""

    __slots__ = ("_dechunker", "_plain")

    def __init__(self, connection: Http1Connection, outlet: BodyOutlet) -> None:
        Http11Stream.__init__(self, connection, outlet)
        self._plain = outlet
        self._dechunker: _DechunkingOutlet | None = None

    def send_head(self, head: ResponseHead, body: bytes, extra: bytes = b"") -> None:
        """Send the head, with a length if the instance told it, and what of the body came with it."""
        self._head, request = head, self.request
        framing = connection = b""
        if head.length < 0 or not request.head.keep_alive:
            self._keep_alive = False
        if head.length >= 0:
            framing, connection = head.framing, b"connection: keep-alive\r\n" if self._keep_alive else b""
        self.outlet.write(
            b"%b%b%b%b%bx-request-id: %b\r\n\r\n"
            % (head.forward, framing, connection, request.head.cors, extra, request.request_id.encode("latin-1"))
        )
        if head.chunked:
            self.outlet = self._dechunker = _DechunkingOutlet(self._plain.write)
        if body:
            self.outlet.write(body)

    def send_event(self, event: bytes, last: bytes) -> bool:
        """Send one more event, behind a whole one."""
        if not self._may_follow(last):
            return False
        self._plain.write(event)
        return True

    def end(self) -> None:
        """The answer has been sent to its end."""
        self._close_dechunker()
        self._dechunker, self.outlet = None, self._plain
        Http11Stream.end(self)

    def reset(self) -> None:
        """End in mid-answer."""
        self._close_dechunker()
        Http11Stream.reset(self)

    def _close_dechunker(self) -> None:
        if self._dechunker is not None:
            self._dechunker.close()

    def _is_delimited(self) -> bool:
        return self._head is None or self._head.length >= 0
