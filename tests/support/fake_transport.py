"""A transport, a loop and a clock to hold in the hand: protocols are tested without sockets and without waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class FakeLoop:
    """Runs what is due when the test says so. ``advance`` moves its clock."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.soon: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self.timers: list[FakeTimer] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        self.soon.append((callback, args))

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> FakeTimer:
        timer = FakeTimer(self, self.now + delay, callback, args)
        self.timers.append(timer)
        return timer

    def run_soon(self) -> None:
        """Run what was called for soon, and what that calls for."""
        for _ in range(1000):
            if not self.soon:
                return
            turn, self.soon = self.soon, []
            for callback, args in turn:
                callback(*args)
        raise AssertionError("the callbacks never come to an end")

    def advance(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        until = self.now + seconds
        for _ in range(1_000_000):
            due = [timer for timer in self.timers if timer.when <= until + 1e-9]
            if not due:
                self.now = until
                return
            timer = min(due, key=lambda t: t.when)
            self.now = max(self.now, timer.when)
            self.timers.remove(timer)
            timer.callback(*timer.args)
            self.run_soon()
        raise AssertionError("the timers never come to an end")


class FakeTimer:
    def __init__(self, loop: FakeLoop, when: float, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        self.loop = loop
        self.when = when
        self.callback = callback
        self.args = args

    def cancel(self) -> None:
        if self in self.loop.timers:
            self.loop.timers.remove(self)


class FakeTransport(asyncio.Transport):
    """Keeps what was written and what was asked of it. ``loop`` (fake or real) tells the protocol of the end."""

    def __init__(self, loop: Any, peer: tuple[str, int] | None = ("10.9.9.9", 4000)) -> None:
        super().__init__()
        self.loop = loop
        self.peer = peer
        self.protocol: asyncio.Protocol | None = None
        self.writes: list[bytes] = []
        self.paused = False
        self.closed = False
        self.aborted = False
        self.eof = False
        self.ended = False  # the protocol has been told
        self.buffered = 0  # bytes that the other side hasn't taken

    def connect(self, protocol: asyncio.Protocol) -> None:
        """Become the transport of ``protocol``."""
        self.protocol = protocol
        protocol.connection_made(self)

    def receive(self, data: bytes, step: int = 0) -> None:
        """Give ``data`` to the protocol as received, ``step`` bytes at a time (0: all at once)."""
        assert self.protocol is not None
        for start in range(0, len(data), step or max(1, len(data))):
            if self.is_closing():
                return
            self.protocol.data_received(data[start : start + (step or len(data))])

    def lose(self, error: Exception | None = None) -> None:
        """The other end closed (or, with an ``error``, broke) the connection."""
        self.closed = True
        self._end(error)

    @property
    def written(self) -> bytes:
        return b"".join(self.writes)

    def take(self) -> bytes:
        """Return what was written since the last call."""
        data = self.written
        self.writes.clear()
        return data

    # what a protocol calls

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.eof, "written after the end of the stream"
        assert not self.is_closing(), "written to a closed transport"
        self.writes.append(bytes(data))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.peer if name == "peername" else default

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof = True

    def pause_reading(self) -> None:
        assert not self.paused, "paused twice"
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused, "resumed without a pause"
        self.paused = False

    def close(self) -> None:
        if not self.is_closing():
            self.closed = True
            self.loop.call_soon(self._end, None)

    def abort(self) -> None:
        if not self.is_closing():
            self.loop.call_soon(self._end, None)
        self.aborted = True

    def _end(self, error: Exception | None) -> None:
        if not self.ended and self.protocol is not None:
            self.ended = True
            self.protocol.connection_lost(error)
