"""How often a process looks for what it has to tell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec
import pytest

from fd_router.bus import BusHealth
from fd_router.state.counters import SyncCounters
from fd_router.state.frames import Frame, encode
from fd_router.state.peers import Peers
from fd_router.state.sync import QUIET, SLOWER, Sync
from fd_router.state.topic import Topic
from tests.support.fake_log import FakeLog
from tests.support.waiting import until

INTERVAL = 0.001


class Echo:
    """A bus that brings back what is sent."""

    place = "here"

    def __init__(self) -> None:
        self._sent: asyncio.Queue[bytes] = asyncio.Queue()

    async def open(self) -> None:
        pass

    async def send(self, data: bytes, to: str = "") -> None:
        self._sent.put_nowait(data)

    async def receive(self) -> Sequence[bytes]:
        return [await self._sent.get()]

    async def close(self) -> None:
        pass


class Uncounted(SyncCounters):
    """Counts nothing."""


class News(Topic):
    name = "news"

    def __init__(self) -> None:
        self.is_told = False
        self.looks = 0

    def gather(self, *, whole: bool) -> bytes | None:
        self.looks += 1
        return msgspec.msgpack.encode(1) if self.is_told else None

    def take(self, process: str, payload: msgspec.Raw) -> None:
        pass


def waits(loop: asyncio.AbstractEventLoop) -> list[float]:
    """Return the delays of timers that are set from now on, as a list that grows."""
    delays: list[float] = []
    call_later = loop.call_later

    def noted(delay: float, callback: Callable[..., object], *args: object, **options: object) -> asyncio.TimerHandle:
        if getattr(callback, "__func__", None) is asyncio.Event.set:
            delays.append(delay)
        return call_later(delay, callback, *args, **options)  # type: ignore[arg-type]

    loop.call_later = noted  # type: ignore[method-assign]
    return delays


@pytest.mark.parametrize(
    ("own", "other", "what"), [("a.1/0", "a.1/1", "worker"), ("a.1/0", "a.12/0", "router"), ("a", "b", "router")]
)
async def test_a_worker_of_the_same_router_is_no_other_router(own: str, other: str, what: str) -> None:
    bus, log = Echo(), FakeLog()
    peers = Peers(own, time.monotonic, 3.5)
    sync = Sync(
        bus,  # type: ignore[arg-type]
        [],
        peers,
        clock=time.monotonic,
        log=log,
        counters=Uncounted(),
        health=BusHealth(),
        interval=INTERVAL,
    )
    await bus.send(encode(Frame(other, 1)))
    task = asyncio.ensure_future(sync.run())
    try:
        await until(lambda: len(peers) == 2)
        assert f"Another {what} is there: {other}, 2 with this one" in str(log.lines)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_who_has_nothing_to_tell_looks_less_often_until_there_is_something() -> None:
    news, delays = News(), waits(asyncio.get_running_loop())
    sync = Sync(
        Echo(),  # type: ignore[arg-type]
        [news],
        Peers("one", time.monotonic, 3.5),
        clock=time.monotonic,
        log=FakeLog(),
        counters=Uncounted(),
        health=BusHealth(),
        interval=INTERVAL,
    )
    task = asyncio.ensure_future(sync.run())
    try:
        await until(lambda: len(delays) >= QUIET + 5)
        assert delays[0] == INTERVAL
        assert delays[QUIET + 4] == SLOWER * INTERVAL
        news.is_told = True
        began = news.looks
        await until(lambda: news.looks >= began + 3)
        assert delays[-1] == INTERVAL
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
