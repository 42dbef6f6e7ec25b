"""The event stream: an answer of the router's own that goes on, event by event, until its client leaves."""

from __future__ import annotations

from collections.abc import Callable

from fd_router.http.chunks import LAST_CHUNK, chunk
from fd_router.http.messages import Subscribe


class EventStream:
    """The ``EventOutlet`` of one client, and a ``Responder`` of its connection.

    A client that takes less than it is sent misses events; nothing is kept for it.
    """

    __slots__ = ("_close", "_is_chunked", "_is_full", "_on_end", "_write")

    def __init__(self, write: Callable[[bytes], None], close: Callable[[], None], *, is_chunked: bool) -> None:
        """``close``: ends the connection, once everything is written. ``is_chunked``: as HTTP/1.1 has it."""
        self._write = write
        self._close = close
        self._is_chunked = is_chunked
        self._is_full = False
        self._on_end: Callable[[], None] | None = None

    def start(self, subscribe: Subscribe) -> None:
        """Let events come."""
        self._on_end = subscribe(self)

    def send(self, events: bytes) -> bool:
        """Send whole events, unless the client is behind. Returns whether they were sent."""
        if self._is_full:
            return False
        self._write(chunk(events) if self._is_chunked else events)
        return True

    def end(self) -> None:
        """End the answer, as one that is whole, and the connection."""
        self._leave()
        if self._is_chunked:
            self._write(LAST_CHUNK)
        self._close()

    def on_client_gone(self) -> None:
        """Nobody takes events any more."""
        self._leave()

    def on_write_paused(self) -> None:
        """The client is behind."""
        self._is_full = True

    def on_write_resumed(self) -> None:
        """The client has caught up."""
        self._is_full = False

    def _leave(self) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    def __repr__(self) -> str:
        return f"<EventStream {'behind' if self._is_full else 'up to date'}>"
