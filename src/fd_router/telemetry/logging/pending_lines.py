"""Pending lines: they are waiting to be written, in bounded memory."""

from __future__ import annotations


class PendingLines:
    """Whole lines in the order they came, of which the first may be half written.

    When it is over ``limit`` bytes, ``trim`` drops the oldest lines: the newest say what is wrong now.
    """

    __slots__ = ("_torn", "data", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.data = bytearray()
        self._torn = False  # the first line's beginning is already written, so its rest must stay

    def add(self, lines: bytes) -> None:
        """Add one or more whole lines."""
        self.data += lines

    def written(self, count: int) -> None:
        """Forget the first ``count`` bytes."""
        if count:
            self._torn = self.data[count - 1] != 0x0A
            del self.data[:count]

    def trim(self) -> int:
        """Drop as many of the oldest lines as needed to be within the limit, and say how many."""
        excess = len(self.data) - self.limit
        if excess <= 0:
            return 0
        start = self.data.find(b"\n") + 1 if self._torn else 0
        end = self.data.find(b"\n", start + excess - 1) + 1 or len(self.data)
        lost = self.data.count(b"\n", start, end)
        del self.data[start:end]
        return lost

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"<PendingLines {len(self.data)} B{' torn' if self._torn else ''}>"
