"""Long work on the event loop, in slices: between two of them everybody else has a turn."""

from __future__ import annotations

import asyncio
import time

SLICE_SECS = 0.005
"""How long work may hold the loop at a time: less than the network needs."""


class Pace:
    """Of one handler's work: ``await pace.breathe()`` where a slice may end."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def breathe(self) -> None:
        """Let others have a turn, if this slice has been long enough."""
        if time.perf_counter() - self._since > SLICE_SECS:
            await asyncio.sleep(0)
            self._since = time.perf_counter()
