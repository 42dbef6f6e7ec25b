"""The reading of a stream so far: what it has generated. In steps, since it may have 40,000 events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from fd_router.http.dechunk import Dechunker
from fd_router.openai.continuation.event_splitter import EventSplitter
from fd_router.openai.continuation.generated import Generated

STEP: Final = 4 * 1024
"""Bytes of a step: some twenty events, and a fraction of a millisecond."""

LONG: Final = 64 * 1024
"""Bytes that take some 5 ms: more are read in slices."""


class StreamReading:
    """``framed`` gives the stream from its beginning on, as it came; it may grow."""

    __slots__ = ("_at", "_contents", "_dechunker", "_framed", "_splitter", "generated")

    def __init__(self, framed: Callable[[], Sequence[bytes]], *, chat: bool) -> None:
        self._framed = framed
        self.generated = Generated(chat=chat)
        self._at = 0  # bytes that were read
        self._splitter = EventSplitter()
        self._contents: list[bytes] = []
        self._dechunker: Dechunker | None = Dechunker(self._contents.append)

    @property
    def is_long(self) -> bool:
        """Whether much is yet to be read."""
        return sum(map(len, self._framed())) - self._at > LONG

    def read(self) -> Iterator[None]:
        """Read what wasn't yet; yields where a slice may end."""
        for part in _parts(self._framed(), self._at):
            for at in range(0, len(part), STEP):
                self._take(part[at : at + STEP])
                yield

    def close(self) -> None:
        """Let go of the stream."""
        self._framed = tuple
        dechunker, self._dechunker = self._dechunker, None
        if dechunker is not None:
            dechunker.close()

    def _take(self, data: bytes) -> None:
        self._at += len(data)
        if self._dechunker is not None:
            self._dechunker.feed(data)
        for event in self._splitter.feed(b"".join(self._contents)):
            self.generated.feed_event(event)
        self._contents.clear()

    def __repr__(self) -> str:
        return f"<StreamReading {self.generated!r}>"


def _parts(pieces: Sequence[bytes], at: int) -> Iterator[bytes]:
    """Join ``pieces`` from byte ``at`` on to parts that have ``STEP`` bytes at least, but for the last one."""
    gathered, size = [], 0
    for piece in pieces:
        if at >= len(piece):
            at -= len(piece)
            continue
        gathered.append(piece[at:])
        size += len(piece) - at
        at = 0
        if size >= STEP:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)
