"""The watchdog: finds requests that nothing happens to any more, and ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from fd_router.telemetry.record import RequestRecord

AT_A_TIME = 500
"""Requests looked at before others get their turn."""


class Watched(Protocol):
    """A request under way."""

    record: RequestRecord

    @property
    def waits_until(self) -> float:
        """Until when it may wait in the queue, in seconds of the clock; 0.0: it doesn't wait there."""

    def on_overdue(self, seconds: float) -> None:
        """Nothing has happened for so long: end."""


class Watchdog:
    """Looks at every request once an interval, beside all time limits: none should ever be left to it.

    Whatever happens to a request changes its record: another attempt, the first byte, more bytes. One whose record
    stays the same for longer than any time limit allows is ended. The request itself does nothing for that.
    The queue's time limit is the request's own: a reload doesn't change it for those that wait already.
    """

    def __init__(
        self,
        requests: Callable[[], Iterable[Watched]],
        limits: Callable[[], tuple[float, float]],
        clock: Callable[[], float],
        interval: float = 5.0,
    ) -> None:
        """``limits()``: seconds without a sign of life before the first byte of an answer, and after it."""
        self._requests = requests
        self._limits = limits
        self._clock = clock
        self._interval = interval
        self._seen: dict[Watched, tuple[tuple[int, float, int], float]] = {}  # request → its state, and since when

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            requests = tuple(self._requests())
            for start in range(0, len(requests), AT_A_TIME):
                self._look(requests[start : start + AT_A_TIME])
                await asyncio.sleep(0)
            self._forget(requests)

    def sweep(self) -> None:
        """Look at every request once."""
        requests = tuple(self._requests())
        self._look(requests)
        self._forget(requests)

    def _look(self, requests: Iterable[Watched]) -> None:
        now = self._clock()
        before_first, after = self._limits()
        for request in requests:
            record = request.record
            state = (record.attempts, record.first_byte_at, record.bytes_out)
            seen = self._seen.get(request)
            if seen is None or seen[0] != state:
                self._seen[request] = (state, now)
            elif now - max(seen[1], request.waits_until) > (after if record.first_byte_at else before_first):
                del self._seen[request]
                request.on_overdue(now - seen[1])

    def _forget(self, requests: Iterable[Watched]) -> None:
        alive = set(requests)
        self._seen = {request: seen for request, seen in self._seen.items() if request in alive}

    def __repr__(self) -> str:
        return f"<Watchdog {len(self._seen)} seen>"
