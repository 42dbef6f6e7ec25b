"""What of a stream is held back: the bytes behind its last whole event, of which each is looked at once.

So an event takes the time that its bytes do, in however many pieces it comes.
"""

from __future__ import annotations

from typing import Final

from fd_router.http.chunks import whole_chunks
from fd_router.routing.continuation.event_bytes import end_of_whole
from fd_router.routing.continuation.event_framer import EVENT_END, LONGEST_END

_CHUNK_END: Final = b"\r\n"


class HeldBack:
    """Bytes as their instance framed them, from the beginning of a chunk on."""

    __slots__ = ("_chunks_end", "_has_event_end", "_new", "_seam", "content")

    def __init__(self, content: bytes) -> None:
        self.content: bytes | bytearray = content  # the latter once more has come: that is added where it stands
        self._new = 0  # where in it begins what came last
        self._chunks_end = 0  # where the chunks end that were taken apart …
        self._seam = b""  # … and the last of what is in them: an event's end may begin there
        self._has_event_end = False

    def __len__(self) -> int:
        return len(self.content)

    def add(self, data: bytes) -> None:
        """Hold more."""
        if isinstance(self.content, bytes):
            self.content = bytearray(self.content)
        self._new = len(self.content)
        self.content += data

    def end_of_whole(self) -> int:
        """Return where the last whole event ends, or the stream; 0: nowhere. Before the last piece none does."""
        return end_of_whole(self.content, self._new)

    def cuts_events(self) -> bool:
        """Tell whether its chunks, of which none ends as usual, are whole and have the end of an event in them."""
        if not self.content.endswith(_CHUNK_END):
            return False
        contents, self._chunks_end = whole_chunks(self.content, self._chunks_end)
        text = b"".join((self._seam, *contents))
        self._seam = text[1 - LONGEST_END :]
        self._has_event_end = self._has_event_end or EVENT_END.search(text) is not None
        return self._has_event_end and self._chunks_end == len(self.content)

    def take(self, end: int) -> bytes:
        """Return what is before ``end``, a chunk's, and hold only what is behind it."""
        taken, rest = bytes(self.content[:end]), bytes(self.content[end:])
        self.content, self._seam, self._has_event_end = rest, b"", False
        self._new = self._chunks_end = 0
        return taken

    def __repr__(self) -> str:
        return f"<HeldBack {len(self)} bytes>"
