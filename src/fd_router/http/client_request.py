"""A request of one's own: its bytes, and its answer's body as it comes, without framing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from fd_router.errors import Retry, UpstreamError
from fd_router.http.connection_pool import InstancePool
from fd_router.http.dechunk import Dechunker
from fd_router.http.heads import ResponseHead
from fd_router.http.upstream_request import UpstreamRequest

NO_HEADERS: Mapping[str, str] = {}


class AnswerListener(Protocol):
    """Who waits for an answer. Exactly one of ``on_complete`` and ``on_failed`` is called, unless it is cancelled."""

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        """The head is here. Header names are in lower case; those that concern the connection are left out."""

    def on_data(self, content: bytes) -> None:
        """More of the body."""

    def on_complete(self) -> None:
        """The answer is whole."""

    def on_failed(self, error: UpstreamError) -> None:
        """The answer won't come, or won't end."""


class ClientRequest(UpstreamRequest):
    """One request under way. On a kept connection that turns out dead it is sent once more, on a new one."""

    __slots__ = (
        "_connecting", "_connection", "_dechunker", "_is_full", "_listener", "_pool", "_request", "_take",
        "_time_limit",
    )  # fmt: skip

    def __init__(self, pool: InstancePool, request: bytes, listener: AnswerListener) -> None:
        self._request = request
        self._listener = listener
        self._dechunker: Dechunker | None = None
        self._take: Callable[[bytes], None] = listener.on_data
        self._is_full = False
        self._connection = self._connecting = None
        self._pool, self._time_limit = pool, 0.0
        self._dispatch()

    def cancel(self) -> None:
        """Give up; the listener hears no more. Its connection is closed."""
        self._end()
        self._cancel()

    def _on_sending(self) -> bytes:
        return self._request

    def on_head(self, head: ResponseHead, body: bytes) -> None:
        """Called by the connection."""
        if head.chunked:
            self._dechunker = dechunker = Dechunker(self._listener.on_data)
            self._take = dechunker.feed
        self._listener.on_head(head.status, _headers(head))
        if body:
            self._take(body)

    def on_data(self, data: bytes) -> None:
        """Called by the connection."""
        self._take(data)

    def on_complete(self) -> None:
        """Called by the connection."""
        self._connection = None
        self._end()
        self._listener.on_complete()

    def on_bug(self, error: Exception) -> None:
        """Called by the connection, or by the pool: the listener, or this, raised."""
        self._connection = self._connecting = None
        self._end()
        what = f"a bug in the router: {type(error).__name__}: {error}"
        self._listener.on_failed(UpstreamError("protocol", what, instance=self._pool.url, retry=Retry.NEVER))

    def on_failed(self, error: UpstreamError, *, stale: bool) -> None:
        """Called by the connection."""
        self._connection = None
        if stale:
            self._replace()
        else:
            self._end()
            self._listener.on_failed(error)

    def _end(self) -> None:
        """Let go of what reads the body's chunks, which refers to itself."""
        if self._dechunker is not None:
            self._take = self._listener.on_data
            self._dechunker.close()
            self._dechunker = None


def request_bytes(
    method: str, target: str, authority: bytes, body: bytes = b"", headers: Mapping[str, str] = NO_HEADERS
) -> bytes:
    """Return a whole request to ``authority`` (``host:port``); the body, if any, is JSON unless ``headers`` say so."""
    return request_head(method, target, authority, headers) + b"content-length: %d\r\n\r\n%b" % (len(body), body)


def request_head(method: str, target: str, authority: bytes, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
    """Return a request's head but for the body's length and the blank line."""
    lines = {"accept": "*/*", "content-type": "application/json"}
    lines |= {name.lower(): value for name, value in headers.items()}
    told = "".join([f"{name}: {value}\r\n" for name, value in lines.items()])
    return b"%b %b HTTP/1.1\r\nhost: %b\r\n%b" % (
        method.encode("ascii"), target.encode("latin-1"), authority, told.encode("latin-1"),
    )  # fmt: skip


def _headers(head: ResponseHead) -> dict[str, str]:
    lines = head.forward.decode("latin-1").split("\r\n")[1:-1]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
