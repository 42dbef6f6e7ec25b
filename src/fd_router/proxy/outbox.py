"""What is to be written waits until the end of the loop's turn, and goes out in one go.

A write wakes the process at the other end. Between reads and Python in turn, that process falls asleep
again before the next write, and each write pays for waking it: about a third of the kernel's time for a
request. Written one after the other, they find it awake. Nothing waits longer than the turn it came in.
"""

from __future__ import annotations

import asyncio

Pieces = tuple[bytes, ...]


class Outbox:
    """Gathers writes of all connections of a loop."""

    __slots__ = ("_call_soon", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._waiting: list[tuple[asyncio.Transport, bytes | Pieces]] = []

    def write(self, transport: asyncio.Transport, data: bytes | Pieces) -> None:
        """Write ``data``, whole or in pieces, to ``transport`` at the end of this turn, in the order of the calls."""
        if not self._waiting:
            self._call_soon(self.flush)
        self._waiting.append((transport, data))

    def flush(self) -> None:
        """Write what waits now: before a transport is closed, for one."""
        waiting = self._waiting
        if waiting:
            self._waiting = []
            for transport, data in waiting:
                if transport.is_closing():  # it may have been closed since, and closed ones raise
                    continue
                if isinstance(data, bytes):
                    transport.write(data)
                else:
                    transport.writelines(data)
