"""Trials of half-open circuits that several routers have: one of them tries, and the others hear what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fd_router.bus import Bus, BusError

TRIAL_SECONDS = 5.0
"""How long one router may have the trial to itself: if no request comes there by then, another one may try."""

ASK_AGAIN_SECONDS = 0.5
"""How long a router waits to ask again for a trial that another one has."""


class SharedTrials:
    """Says whether this router may send an instance a request on trial. Asked again and again; never waits."""

    def __init__(
        self,
        bus: Bus,
        *,
        is_up: Callable[[], bool],
        clock: Callable[[], float],
        tell: Callable[[str, float], None],
    ) -> None:
        """``tell`` lets the others know of a trial's end: the key, and for how long the circuit is open; 0: closed."""
        self._bus = bus
        self._is_up = is_up
        self._clock = clock
        self.over = tell
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._granted: set[str] = set()
        self._refused_until: dict[str, float] = {}

    def may(self, key: str) -> bool:
        """Whether the instance with ``key`` may be tried now."""
        if key in self._granted or not self._is_up():
            self._granted.discard(key)
            return True
        if key not in self._asking and self._clock() >= self._refused_until.get(key, 0.0):
            self._refused_until.pop(key, None)
            self._asking[key] = asyncio.get_running_loop().create_task(self._ask(key), name=f"trial of {key}")
        return False

    async def _ask(self, key: str) -> None:
        try:
            if await self._bus.lease(f"trial:{key}", TRIAL_SECONDS):
                self._granted.add(key)
            else:
                self._refused_until[key] = self._clock() + ASK_AGAIN_SECONDS
        except BusError:
            self._granted.add(key)  # this router goes by its own view
        finally:
            del self._asking[key]

    def __repr__(self) -> str:
        return f"<SharedTrials, asks for {len(self._asking)}>"
