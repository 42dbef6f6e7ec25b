"""The limit of a request's total time: ends requests that take longer, whatever they wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from fd_router.bugs import bugs_told
from fd_router.config.live import LiveConfig
from fd_router.config.sections import Config
from fd_router.telemetry.record import RequestRecord

MAX_INTERVAL_SECS: Final = 0.25
"""How late a limit may be noticed, at most."""

ASLEEP_SECS: Final = 3600.0
"""How long it sleeps where there is no limit; a reload wakes it."""

AT_A_TIME = 500
"""Requests looked at before others get their turn."""


class Timed(Protocol):
    """A request under way."""

    record: RequestRecord

    def on_timed_out(self, seconds: float) -> None:
        """It has taken so long as a request may: end."""


def interval_secs(config: Config) -> float:
    """Return how often to look: a limit is noticed at most a tenth of it late."""
    limit = config.proxy.request_timeout_secs
    return min(MAX_INTERVAL_SECS, limit / 10) if limit else ASLEEP_SECS


class TotalTimeLimit:
    """Looks at every request once an interval; the requests do nothing for it, and without a limit nobody does."""

    def __init__(self, requests: Callable[[], Iterable[Timed]], live: LiveConfig, clock: Callable[[], float]) -> None:
        self._requests = requests
        self._live = live
        self._clock = clock

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await self._live.sleep(interval_secs)
            await self._sweep_in_slices()

    async def _sweep_in_slices(self) -> None:
        requests = tuple(self._requests())
        for start in range(0, len(requests), AT_A_TIME):
            self._look(requests[start : start + AT_A_TIME])
            await asyncio.sleep(0)

    def sweep(self) -> None:
        """Look at every request once."""
        self._look(tuple(self._requests()))

    def _look(self, requests: Iterable[Timed]) -> None:
        limit = self._live.current.proxy.request_timeout_secs
        if not limit:
            return
        due = self._clock() - limit
        for request in requests:
            if request.record.started <= due:
                with bugs_told("a time limit failed"):
                    request.on_timed_out(limit)

    def __repr__(self) -> str:
        return f"<TotalTimeLimit {self._live.current.proxy.request_timeout_secs:g} s>"
