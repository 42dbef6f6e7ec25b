"""What looks at the clock now and then, since it is no request that brings it on."""

from __future__ import annotations

import asyncio
from typing import Final

TICK_SECONDS: Final = 0.1
"""How late it may be noticed that a time is over."""


class Ticking:
    """Calls its ``tick`` while it runs."""

    __slots__ = ()

    async def run(self) -> None:
        """Look at the clock until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.tick()

    def tick(self) -> None:
        """Do what the time has come for."""
        raise NotImplementedError
