"""What looks at the clock now and then, since it is no request that brings it on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from fd_router.bugs import tell_of_bug
from fd_router.moments import until_next

TICK_SECONDS: Final = 0.1
"""How late it may be noticed that a time is over."""


class Ticking:
    """Its ``tick`` is called again and again."""

    __slots__ = ()

    def tick(self) -> None:
        """Do what the time has come for."""
        raise NotImplementedError


async def tick_together(parts: Sequence[Ticking]) -> None:
    """Have all of them look at the clock until cancelled: one timer for each woke an idle process as often again."""
    clock = asyncio.get_running_loop().time
    while True:
        await asyncio.sleep(until_next(TICK_SECONDS, clock()))
        for part in parts:
            try:
                part.tick()
            except Exception as error:  # noqa: BLE001  a bug with one must not keep the others waiting
                tell_of_bug(f"{part!r} failed", error)
