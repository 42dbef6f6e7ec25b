"""The bus of workers: a hub, and each worker's connection to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fd_router.admission.common_limits import CommonLimits
from fd_router.state.local.bus import LocalBus
from fd_router.state.local.hub import ECHO_SECONDS, Hub
from tests.support.waiting import until


class Rig:
    """Two workers at one hub, and what each has heard."""

    def __init__(self, buses: list[LocalBus]) -> None:
        self.now = 100.0
        self.buses = buses
        self.heard: list[list[bytes]] = [[], []]

    async def listen(self, place: int) -> None:
        while True:
            self.heard[place] += await self.buses[place].receive()


@asynccontextmanager
async def two_workers() -> AsyncIterator[Rig]:
    rig = Rig([])
    hub = Hub(CommonLimits(lambda: rig.now), lambda: rig.now)
    for name in "ab":
        own, way = socket.socketpair()
        own.setblocking(False)
        way.setblocking(False)
        await hub.join(name, own)
        rig.buses.append(LocalBus(way, _nothing))
        await rig.buses[-1].open()
    listening = [asyncio.create_task(rig.listen(place)) for place in range(2)]
    try:
        yield rig
    finally:
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
        for bus in rig.buses:
            await bus.close()
        hub.close()


def _nothing() -> None:
    pass


def heard(rig: Rig, place: int, last: bytes) -> Callable[[], bool]:
    return lambda: rig.heard[place][-1:] == [last]


async def test_what_one_says_to_all_the_others_hear_and_of_many_it_hears_some_itself() -> None:
    async with two_workers() as rig:
        for number in range(5):
            await rig.buses[0].send(b"%d" % number)
        await until(heard(rig, 1, b"4"))
        assert rig.heard[1] == [b"0", b"1", b"2", b"3", b"4"]
        rig.now += ECHO_SECONDS
        await rig.buses[0].send(b"5")
        await until(heard(rig, 0, b"5"))
        assert rig.heard[0] == [b"0", b"5"]


async def test_a_letter_goes_to_one_alone() -> None:
    async with two_workers() as rig:
        await rig.buses[1].send(b"to a", "a")
        await rig.buses[1].send(b"to nobody", "c")
        await rig.buses[1].send(b"to all")
        await until(heard(rig, 0, b"to all"))
        await until(heard(rig, 1, b"to all"))
        assert rig.heard == [[b"to a", b"to all"], [b"to all"]]
