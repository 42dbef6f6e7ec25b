"""How many turns others have on the loop while something goes over a whole fleet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from fd_router.http import pace


def slice_finely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every slice of work be as short as can be, however fast the machine is."""
    monkeypatch.setattr(pace, "SLICE_SECS", -1.0)


async def turns_during(work: Awaitable[object]) -> int:
    """Await ``work``; return how many turns of the loop there were meanwhile."""
    turns = 0

    def turn() -> None:
        nonlocal turns, handle
        turns += 1
        handle = loop.call_soon(turn)

    loop = asyncio.get_running_loop()
    handle = loop.call_soon(turn)
    try:
        await work
    finally:
        handle.cancel()
    return turns
