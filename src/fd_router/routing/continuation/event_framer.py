"""The framer of events: a stream whose chunks end anywhere is framed anew, in chunks that end where events do.

A proxy between an engine and the router may cut its chunks by their size. An event that is whole is handed on all the
same, and behind it another instance can go on.
"""

from __future__ import annotations

import re
from typing import Final

from fd_router.http.chunks import LAST_CHUNK, chunk
from fd_router.http.dechunk import Dechunker

EVENT_END: Final = re.compile(rb"\n\r?\n|\r\r")
LONGEST_END: Final = len(b"\n\r\n")


class EventFramer:
    """Takes a body in chunks, from the beginning of one on, and gives chunks of whole events."""

    __slots__ = ("_contents", "_dechunker", "pending")

    def __init__(self) -> None:
        self._contents: list[bytes] = []
        self._dechunker = Dechunker(self._contents.append)
        self.pending = bytearray()
        """The beginning of an event whose end is yet to come."""

    def feed(self, data: bytes) -> bytes:
        """Take more. Returns the events that are whole now, and the last chunk behind them, if that has come."""
        self._dechunker.feed(data)
        pending, before = self.pending, len(self.pending)
        pending += b"".join(self._contents)
        self._contents.clear()
        end = _end_of_events(pending, max(0, before - LONGEST_END))
        whole = chunk(bytes(pending[:end]))
        del pending[:end]
        return whole + self.rest() + LAST_CHUNK if self._dechunker.is_over else whole

    def rest(self) -> bytes:
        """Return what is pending, which is handed on as it is."""
        rest = bytes(self.pending)
        self.pending.clear()
        return chunk(rest)

    def close(self) -> None:
        """Let go of the parser."""
        self._dechunker.close()

    def __repr__(self) -> str:
        return f"<EventFramer {len(self.pending)} bytes pending>"


def _end_of_events(content: bytearray, start: int) -> int:
    """Return where the last whole event ends, looked for from ``start`` on; 0: nowhere."""
    return max((found.end() for found in EVENT_END.finditer(content, start)), default=0)
