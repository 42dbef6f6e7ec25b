"""The write batcher: what is to be written waits until the end of the loop's turn, and goes out in one go.

A write wakes the process at the other end. Between reads and Python in turn, that process falls asleep
again before the next write, and each write pays for waking it: about a third of the kernel's time for a
request. Written one after the other, they find it awake. Nothing waits longer than the turn it came in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from fd_router.spliced_body import Body, pieces_of

Buffers = tuple[Body, ...]

LARGE = 64 * 1024
"""Bytes that don't wait for the end of the turn: before it, megabytes more may be read for a client that takes none."""


class _Writer(Protocol):
    """A transport, as far as it is needed here."""

    def is_closing(self) -> bool: ...
    def write(self, data: bytes, /) -> None: ...


class WriteBatcher:
    """Gathers writes of all connections of a loop, which each have an ``Outlet`` for them."""

    __slots__ = ("_call_soon", "_waiting", "turn")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._waiting: list[tuple[_Writer, bytes]] = []  # always this list: the outlets have it too
        self.turn = 0
        """How often all that waited was written: what was given in this turn is still here. Read only."""

    def outlet(self, transport: asyncio.Transport) -> Outlet:
        """Return where to write to ``transport``."""
        return Outlet(transport, self._waiting, self._call_soon, self.flush)

    def flush(self) -> None:
        """Write what waits now: before a transport is closed, for one."""
        waiting = self._waiting
        while waiting:
            rest = iter(waiting[:])
            waiting.clear()
            self.turn += 1
            try:
                for transport, data in rest:
                    transport.write(data)
            except Exception:
                waiting[:0] = rest
                # One that was closed since raises, and is passed over: to ask each before would cost too much.
                if not transport.is_closing():  # type: ignore[possibly-undefined]  # only its ``write`` raises
                    self._call_soon(self.flush)  # a bug with one must not take the others' bytes with it
                    raise


class Outlet:
    """Where one connection writes: what it is given goes out at the end of the loop's turn, in the order of the calls.

    One object a connection: to bind the transport by ``partial`` would cost each write as much again.
    """

    __slots__ = ("_call_soon", "_flush", "_transport", "_waiting")

    def __init__(
        self,
        transport: asyncio.Transport,
        waiting: list[tuple[_Writer, bytes]],
        call_soon: Callable[[Callable[[], None]], object],
        flush: Callable[[], None],
    ) -> None:
        """``waiting``: the batcher's list, which ``flush`` writes."""
        self._transport = transport
        self._waiting = waiting
        self._call_soon = call_soon
        self._flush = flush

    def write(self, data: bytes) -> None:
        """Write ``data`` at the end of this turn."""
        waiting = self._waiting
        if not waiting:
            call_soon = self._call_soon  # called by its name it would be looked for as a method, in vain
            call_soon(self._flush)
        waiting.append((self._transport, data))
        if len(data) >= LARGE:
            self._flush()

    def write_buffers(self, pieces: Buffers) -> None:
        """Do the same with what needn't be copied together."""
        waiting = self._waiting
        waiting.append((_InBuffers(self._transport, pieces), b""))
        if len(waiting) == 1:
            self._call_soon(self._flush)


class _InBuffers:
    """A transport with what is to be written to it: most writes are of one piece, and needn't ask which kind it is."""

    __slots__ = ("_pieces", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport, pieces: Buffers) -> None:
        self._transport, self._pieces = transport, pieces
        self.is_closing = transport.is_closing

    def write(self, _: bytes, /) -> None:
        self._transport.writelines(pieces_of(self._pieces))
