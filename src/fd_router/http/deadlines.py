"""Time limits without a timer each: connections carry a deadline, one sweep looks at all of them in turn.

Setting a deadline is one attribute write, so the hot path can do it for every chunk. The price is
precision: a deadline is noticed up to ``interval`` seconds late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from fd_router.moments import until_next

NEVER = float("inf")


class Expiring(Protocol):
    """Something with a time limit."""

    deadline: float
    """Monotonic seconds at which ``on_deadline`` is due, or ``NEVER``."""

    def on_deadline(self) -> None:
        """Act on the limit: close, answer 408, or set a new deadline. Called again while it stays past."""


class DeadlineSweeper:
    """Looks at every member once an ``interval`` (seconds), a slice at a time, so that no tick is long."""

    SLICES = 4  # so 20 ticks a second: each wakes a process that has nothing else to do

    def __init__(self, loop: asyncio.AbstractEventLoop, interval: float = 0.2) -> None:
        self._loop = loop
        self._tick_seconds = interval / self.SLICES
        self._slices: list[set[Expiring]] = [set() for _ in range(self.SLICES)]
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = None
        self._told: list[Callable[[float], None]] = []
        self.now = loop.time()
        """The time of the last tick: a clock that costs an attribute read."""

    def start(self) -> None:
        """Begin to tick."""
        self._timer = self._loop.call_later(self._tick_seconds, self._tick)

    def stop(self) -> None:
        """Stop ticking. Members stay."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def add(self, member: Expiring) -> None:
        """Watch ``member`` until it is discarded."""
        min(self._slices, key=len).add(member)

    def discard(self, member: Expiring) -> None:
        """Stop watching ``member``, if it is watched."""
        for members in self._slices:
            members.discard(member)

    def tell(self, on_tick: Callable[[float], None]) -> None:
        """Tell ``on_tick`` the time now and at each tick, so that it can keep ready what is set again and again."""
        self._told.append(on_tick)
        on_tick(self.now)

    def _tick(self) -> None:
        self.now = now = self._loop.time()
        self._timer = self._loop.call_later(until_next(self._tick_seconds, now), self._tick)
        for on_tick in self._told:
            on_tick(now)
        self._turn = (self._turn + 1) % self.SLICES
        members = self._slices[self._turn]
        for member in [m for m in members if m.deadline <= now]:
            if member.deadline > now or member not in members:  # by what one before it has set off
                continue
            try:
                member.on_deadline()
            except Exception as error:  # noqa: BLE001  a bug with one must not keep the others waiting
                self._loop.call_exception_handler({"message": "a time limit failed", "exception": error})

    def __len__(self) -> int:
        return sum(map(len, self._slices))

    def __repr__(self) -> str:
        return f"<DeadlineSweeper {len(self)} members>"
