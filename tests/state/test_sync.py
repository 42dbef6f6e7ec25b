"""How often a process looks for what it has to tell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest

from fd_router.bus import BusError, BusHealth
from fd_router.moments import ALMOST
from fd_router.state.counters import SyncCounters
from fd_router.state.frames import Frame, decode, encode
from fd_router.state.peers import Peers
from fd_router.state.sync import BYE, QUIET, SLOWER, Sync
from fd_router.state.topic import NewsTopic, Topic
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


def make_sync(bus: Echo, *topics: Topic, peers: Peers | None = None, log: FakeLog | None = None) -> Sync:
    return Sync(
        bus,  # type: ignore[arg-type]
        topics,
        Peers("one", time.monotonic, 3.5) if peers is None else peers,
        clock=time.monotonic,
        log=FakeLog() if log is None else log,
        counters=Uncounted(),
        health=BusHealth(),
        interval=INTERVAL,
    )


@asynccontextmanager
async def running(sync: Sync) -> AsyncIterator[None]:
    task = asyncio.ensure_future(sync.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


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
    sync = make_sync(bus, peers=peers, log=log)
    await bus.send(encode(Frame(other, 1)))
    async with running(sync):
        await until(lambda: len(peers) == 2)
        assert f"Another {what} is there: {other}, 2 with this one" in str(log.lines)


async def test_who_has_nothing_to_tell_looks_less_often_until_there_is_something() -> None:
    news, delays = News(), waits(asyncio.get_running_loop())
    sync = make_sync(Echo(), news)
    async with running(sync):
        await until(lambda: len(delays) >= QUIET + 50)
        assert delays[0] == INTERVAL
        assert INTERVAL < max(delays[QUIET + 2 :]) <= SLOWER * INTERVAL * (1 + ALMOST)
        news.is_told = True
        began = news.looks
        await until(lambda: news.looks >= began + 3)
        assert delays[-1] == INTERVAL


class Breaking(Echo):
    """A bus that is lost when something is to be sent, ``breaks`` times."""

    def __init__(self) -> None:
        super().__init__()
        self.breaks = 0
        self.sent: list[bytes] = []

    async def send(self, data: bytes, to: str = "") -> None:
        if self.breaks:
            self.breaks -= 1
            raise BusError("it is lost")
        self.sent.append(data)
        await super().send(data, to)

    async def receive(self) -> Sequence[bytes]:
        try:
            async with asyncio.timeout(0.01):
                return await super().receive()
        except TimeoutError:
            return ()


class Once(NewsTopic[int]):
    """Tells what happens, once."""

    name = "once"

    def tell(self, number: int) -> None:
        self._news["x"] = number

    def take(self, process: str, payload: msgspec.Raw) -> None:
        pass


async def test_what_could_not_be_sent_is_told_before_what_came_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fd_router.state.sync.RETRY_SECONDS", (0.001, 0.001))
    once, figures, bus = Once(), News(), Breaking()
    figures.is_told = True
    sync = make_sync(bus, once, figures)

    def told() -> list[int]:
        facts = [decode(data).facts for data in bus.sent]
        return [msgspec.msgpack.decode(each["once"])["x"] for each in facts if "once" in each]

    async with running(sync):
        await until(lambda: bool(bus.sent))
        bus.breaks = 3
        once.tell(1)
        await until(lambda: not bus.breaks)
        once.tell(2)
        await until(lambda: len(told()) == 2)
        assert told() == [1, 2]
        alone = [decode(data).facts for data in bus.sent if b"once" in data]
        assert [*alone[0]] == ["once"]  # figures would be old ones


async def test_a_question_from_before_it_was_there_is_not_answered() -> None:
    """What was asked while its connection was away may be about other requests than those of now."""
    bus, answered = Echo(), []
    sync = make_sync(bus)

    async def answer(body: bytes) -> bytes:
        answered.append(body)
        return b""

    def ask(number: int, body: bytes) -> None:
        payload = msgspec.Raw(msgspec.msgpack.encode(["id", "abort", body]))
        bus._sent.put_nowait(encode(Frame("other", number, {"calls": payload}, {})))

    sync.calls.on("abort", answer)
    ask(1, b"old")
    async with running(sync):
        await until(lambda: sync.is_up)
        ask(2, b"new")
        await until(lambda: bool(answered))
        assert answered == [b"new"]


class Slow(Echo):
    """A bus over which a frame may be on its way while another one is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.on_its_way = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.came: list[bytes] = []

    async def send(self, data: bytes, to: str = "") -> None:
        self.on_its_way += 1
        if BYE not in decode(data).facts:
            await self.gate.wait()
        self.came.append(data)
        await super().send(data, to)


@pytest.mark.parametrize("is_amid", [True, False], ids=["a frame is on its way", "between two frames"])
async def test_nothing_is_heard_of_a_process_behind_its_goodbye(is_amid: bool) -> None:
    """The others would take it for another one that has come, and count what it had until its lease is over."""
    news, bus = News(), Slow()
    news.is_told = True
    sync = make_sync(bus, news)
    async with running(sync):
        await until(lambda: sync.is_up)
        if is_amid:
            bus.gate.clear()
            sent = bus.on_its_way
            await until(lambda: bus.on_its_way > sent)
        leaving = asyncio.ensure_future(sync.say_goodbye())
        await asyncio.sleep(0)
        bus.gate.set()
        await leaving
        await asyncio.sleep(5 * INTERVAL)
        assert [BYE in decode(data).facts for data in bus.came].index(True) == len(bus.came) - 1


async def test_a_process_that_stood_still_takes_nobody_to_be_dead_for_that() -> None:
    now, bus, log, news = 1000.0, Echo(), FakeLog(), News()
    peers = Peers("one", lambda: now, 3.5)
    sync = make_sync(bus, news, peers=peers, log=log)
    sync._clock = lambda: now
    await bus.send(encode(Frame("two", 1)))
    async with running(sync):
        await until(lambda: len(peers) == 2)
        now += 60.0  # stopped, and gone on with
        looks = news.looks
        await until(lambda: news.looks > looks + 2)
        assert len(peers) == 2
        for _ in range(5):  # "two" did end meanwhile: it has a lease to be heard of
            now += 0.9
            looks = news.looks
            await until(lambda looks=looks: news.looks > looks + 2)
        assert len(peers) == 1
    assert [line for line in log.lines if "counts no more" in str(line)]


@pytest.mark.parametrize(("elapsed", "is_whole", "sends"), [(0.6, True, True), (0.4, True, False), (0.6, False, False)])
async def test_who_hears_a_heartbeat_shortly_before_its_own_sends_it_then(
    elapsed: float, is_whole: bool, sends: bool
) -> None:
    """So all of a set come to be in step, and wake up together."""
    bus, news, now = Breaking(), News(), [1000.0]
    peers = Peers("one", lambda: now[0], 3.5)
    sync = make_sync(bus, news, peers=peers)
    sync._clock = lambda: now[0]

    def beats() -> int:
        return sum(decode(data).is_whole for data in bus.sent)

    async def hear(number: int, *, is_whole: bool) -> None:
        bus._sent.put_nowait(encode(Frame("other", number, is_whole=is_whole)))
        await until(bus._sent.empty)
        looks = news.looks
        await until(lambda: news.looks >= looks + 5)

    async with running(sync):
        await hear(1, is_whole=False)
        before = beats()
        now[0] += elapsed
        await hear(2, is_whole=is_whole)
        assert beats() - before == sends
