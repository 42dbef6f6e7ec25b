"""A worker's seat: its two sockets to the supervisor."""

from __future__ import annotations

import asyncio
import socket

from fd_router.app.workers.seat import Seat


async def test_a_supervisor_that_is_gone_is_told_once() -> None:
    """Both sockets end; told twice, a worker would hurry, and cut off what runs."""
    (inlet, far_inlet), (hub, far_hub) = socket.socketpair(), socket.socketpair()
    seat = Seat("group", 0, 2, inlet.detach(), hub.detach())
    told = asyncio.Event()
    times = 0

    def orphaned() -> None:
        nonlocal times
        times += 1
        told.set()

    seat.on_orphaned = orphaned
    await seat.bus.open()
    seat.inlet.start(lambda: 0)
    far_inlet.close()
    far_hub.close()
    await asyncio.wait_for(told.wait(), 60)
    for _ in range(20):
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    await seat.bus.close()
    assert times == 1
