"""A log's surroundings to hold in the hand: where lines go, what time it is, and when timers fire."""

from __future__ import annotations

import asyncio
import time

EVENING = time.mktime((2026, 3, 30, 20, 16, 57, 0, 0, -1)) + 0.25


class Outlet:
    name = "memory"

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.error: OSError | None = None
        self.written = asyncio.Event()

    def put(self, data: bytearray) -> int:
        if self.error:
            raise self.error
        self.writes.append(bytes(data))
        self.written.set()
        return len(data)

    def wait(self, seconds: float) -> bool:
        return True

    def close(self) -> None:
        self.writes.append(b"<closed>")

    @property
    def text(self) -> str:
        return b"".join(self.writes).decode()


class Clock:
    def __init__(self) -> None:
        self.now = EVENING

    def __call__(self) -> float:
        return self.now


class FakeLoop:
    """Holds the one timer that may be set."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, object]] = []

    def time(self) -> float:
        return 0.0

    def call_later(self, delay: float, callback: object) -> FakeLoop:
        self.timers.append((delay, callback))
        return self

    def cancel(self) -> None:
        self.timers.clear()

    def tick(self) -> None:
        timers, self.timers = self.timers, []
        for _, callback in timers:
            callback()  # type: ignore[operator]
