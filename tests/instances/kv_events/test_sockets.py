"""The sockets of KV events: what goes wrong with one engine's doesn't end the others'."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec
import pytest

from fd_router.engines.kv_events import BlockHash, BlockRemoved, KvEvent
from fd_router.engines.kv_sources import KvEventSource
from fd_router.instances.kv_events.sockets import Subscriptions
from tests.support.ports import free_port
from tests.support.waiting import until

zmq = pytest.importorskip("zmq")


class Cache:
    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.batches = 0
        self.removed: list[BlockHash] = []

    def apply(self, events: Sequence[KvEvent], unknown: int = 0, *, goes_on: bool = False) -> None:
        if self.fails:
            raise RuntimeError("a bug")
        self.batches += 1
        self.removed += [block for event in events if isinstance(event, BlockRemoved) for block in event.block_hashes]

    def forget(self) -> None:
        pass

    begin = forget


def batch(number: int) -> list[bytes]:
    return [b"", number.to_bytes(8, "big"), msgspec.msgpack.encode([float(number), [], 0])]


@pytest.fixture
def publisher():
    context = zmq.Context()
    sockets = []

    def publish_at(port: int, kind: int = zmq.PUB):
        socket = context.socket(kind)
        socket.bind(f"tcp://127.0.0.1:{port}")
        sockets.append(socket)
        return socket

    yield publish_at
    for socket in sockets:
        socket.close(0)
    context.term()


async def send_until(sockets, frames, is_so) -> None:
    """Send again and again: a publisher drops what comes before its subscriber."""

    def is_so_now() -> bool:
        for socket in sockets:
            socket.send_multipart(frames)
        return is_so()

    await until(is_so_now)


async def test_a_bug_with_one_engines_events_does_not_end_the_others(publisher) -> None:
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
    ports = free_port(), free_port()
    good, bad = Cache(), Cache(fails=True)
    subscriptions = Subscriptions(time.monotonic, lambda: None)
    try:
        for port, cache in zip(ports, (good, bad), strict=True):
            subscriptions.add("127.0.0.1", KvEventSource(port), cache)
        sockets = [publisher(port) for port in ports]
        await send_until(sockets, batch(0), lambda: len(raised) > 0)
        seen = good.batches
        await send_until(sockets[:1], batch(10**18), lambda: good.batches > seen)
    finally:
        subscriptions.close()
    assert {str(error) for error in raised} == {"a bug"}


async def test_of_large_batches_that_are_replayed_no_more_than_a_piece_is_taken_at_a_time(
    publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fd_router.instances.kv_events.stream.AT_ONCE", 50)
    ports, cache = (free_port(), free_port()), Cache()
    publisher(ports[0])
    replays = publisher(ports[1], zmq.ROUTER)
    subscriptions = Subscriptions(time.monotonic, lambda: None)
    try:
        subscription = subscriptions.add("127.0.0.1", KvEventSource(*ports), cache)
        taken = watch_receiving(subscriptions, cache)
        await until(lambda: replays.poll(0))
        who, *_ = replays.recv_multipart()
        for number in range(3):
            blocks = [{"type": "BlockRemoved", "block_hashes": [3 * number + at]} for at in range(3)]
            payload = msgspec.msgpack.encode([float(number), blocks, 0])
            replays.send_multipart((who, b"", number.to_bytes(8, "big"), payload))
        replays.send_multipart((who, b"", b"\xff" * 8, b""))
        await until(lambda: not subscription.stream.is_asking)
        await until(lambda: not subscription.stream.has_more)
    finally:
        subscriptions.close()
    assert cache.removed == [*range(9)]
    assert max(taken) == 1


def watch_receiving(subscriptions: Subscriptions, cache: Cache) -> list[int]:
    """Return what grows by the pieces that each message had taken at once."""
    taken: list[int] = []
    sockets = subscriptions._sockets
    assert sockets is not None
    receive = sockets._receive

    def watched(socket, now: float) -> None:
        before = cache.batches
        receive(socket, now)
        taken.append(cache.batches - before)

    sockets._receive = watched
    return taken


async def test_one_that_is_followed_no_more_is_forgotten_amid_a_large_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fd_router.instances.kv_events.stream.AT_ONCE", 50)
    subscriptions = Subscriptions(time.monotonic, lambda: None)
    try:
        subscription = subscriptions.add("127.0.0.1", KvEventSource(free_port(), free_port()), Cache())
        events = [{"type": "BlockRemoved", "block_hashes": [at]} for at in range(1000)]
        subscription._on_replayed(bytes(8), msgspec.msgpack.encode([0.0, events, 0]), 0.0)
        sockets = subscriptions._sockets
        assert sockets is not None
        assert sockets.unfinished == [subscription.stream]
        subscription.close()
        assert (sockets.unfinished, subscriptions.all()) == ([], ())
    finally:
        subscriptions.close()


async def test_without_a_socket_for_replays_it_is_followed_all_the_same(publisher) -> None:
    port, cache = free_port(), Cache()
    subscriptions = Subscriptions(time.monotonic, lambda: None)
    subscriptions.add("127.0.0.1", KvEventSource(free_port()), Cache())
    try:
        sockets = subscriptions._sockets
        assert sockets is not None
        open_any = sockets.open

        def open_one(kind, place, take):
            if kind == zmq.DEALER:
                raise zmq.ZMQError(24)
            return open_any(kind, place, take)

        sockets.open = open_one
        subscription = subscriptions.add("127.0.0.1", KvEventSource(port, free_port()), cache)
        sending = publisher(port)
        await send_until([sending], batch(0), lambda: len(subscription.stream._waiting) > 0)
        assert subscription.stream.is_asking
    finally:
        subscriptions.close()


async def test_more_than_a_thousand_sockets_can_be_had() -> None:
    subscriptions = Subscriptions(time.monotonic, lambda: None)
    subscriptions.add("127.0.0.1", KvEventSource(free_port()), Cache())
    try:
        assert subscriptions._sockets is not None
        assert subscriptions._sockets._context.max_sockets > 10_000
    finally:
        subscriptions.close()
