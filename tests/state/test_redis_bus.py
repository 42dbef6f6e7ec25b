"""What a process has missed while its connections to the server were away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from fd_router.bus import BusError
from fd_router.config.state import StateConfig
from fd_router.state.redis.bus import RedisBus
from tests.support.redis_server import RedisServer
from tests.support.redis_sets import ask

ALL = b"to all"


@asynccontextmanager
async def two() -> AsyncIterator[tuple[RedisServer, RedisBus, RedisBus]]:
    with RedisServer() as server:
        one, other = (RedisBus(StateConfig(url=server.url), process) for process in ("one", "other"))
        try:
            await one.open()
            await other.open()
            yield server, one, other
        finally:
            await one.close()
            await other.close()


async def lose(server: RedisServer, bus: RedisBus) -> None:
    """Have the connections of all break."""
    ask(server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises(BusError):
        await bus.receive()


async def reopen(bus: RedisBus) -> None:
    """Do so as ``Sync`` does, which tries again: each kept connection tells once that it is lost."""
    for _ in range(10):
        try:
            return await bus.open()
        except BusError:
            continue
    raise AssertionError


async def test_what_was_sent_meanwhile_is_read_and_nothing_twice() -> None:
    async with two() as (server, one, other):
        await one.send(ALL)
        await one.send(b"a snapshot", "other")
        before = await received(other, 2)
        assert sorted(before) == sorted([ALL, b"a snapshot"])
        await lose(server, other)
        await reopen(one)
        await one.send(b"missed")
        await one.send(b"a late letter", "other")
        await reopen(other)
        assert sorted(await received(other, 2)) == sorted([b"missed", b"a late letter"])


@pytest.mark.parametrize("command", ["FLUSHALL", "XTRIM"])
async def test_where_its_place_is_no_more_it_begins_at_the_end(command: str) -> None:
    async with two() as (server, one, other):
        await one.send(ALL)
        assert await received(other, 1) == [ALL]
        await one.send(b"before")
        ask(server, *(("FLUSHALL",) if command == "FLUSHALL" else ("XTRIM", "{fd-router}:frames", "MAXLEN", "1")))
        await lose(server, other)
        await reopen(one)
        await reopen(other)
        await one.send(b"behind")
        assert await received(other, 1) == [b"behind"]


async def received(bus: RedisBus, number: int) -> Sequence[bytes]:
    messages: list[bytes] = []
    for _ in range(20):
        messages += await bus.receive()
        if len(messages) >= number:
            break
    return messages
