"""How a drain goes on and when it ends; the site and the listener are stood in for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fd_router.app.serving import drain, make_listener
from fd_router.config.loading import Config, ServerConfig
from fd_router.errors import FdRouterError
from tests.support.fake_log import FakeLog
from tests.support.live import live_config


class Stand:
    """Site and listener at once; notes what is asked of them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.connections: set[object] = {"one"}
        self.is_greeting = False
        self.is_encrypted = False
        self.log = FakeLog()
        self.hurry = asyncio.Event()

    def drain(self) -> None:
        self.asked.append("drain")

    def close_idle(self) -> None:
        self.asked.append("last call")

    def stop(self) -> None:
        self.asked.append("stop")

    def start(self, **options: Any) -> asyncio.Task[None]:
        work = drain(self, self, live_config(server=options), self.hurry, self.log)  # type: ignore[arg-type]
        return asyncio.ensure_future(work)


@pytest.fixture
def stand() -> Stand:
    return Stand()


async def ended(task: asyncio.Task[None]) -> bool:
    done, _ = await asyncio.wait({task}, timeout=0.2)
    return bool(done)


async def test_it_waits_for_every_connection_also_for_those_that_only_take_their_last_bytes(stand: Stand) -> None:
    task = stand.start()
    assert not await ended(task)
    assert stand.asked == ["drain", "last call", "stop"]
    stand.connections.clear()
    await asyncio.wait_for(task, 5)
    assert stand.log.lines == []


async def test_it_waits_for_connections_that_were_accepted_last(stand: Stand) -> None:
    stand.connections.clear()
    stand.is_greeting = True
    task = stand.start()
    assert not await ended(task)
    stand.is_greeting = False
    await asyncio.wait_for(task, 5)


async def test_it_waits_for_a_connection_that_was_accepted_in_the_turn_in_which_it_stops(stand: Stand) -> None:
    """The loop tells of it a turn later; the process would end meanwhile, and reset it."""
    stand.connections.clear()
    stand.stop = lambda: asyncio.get_running_loop().call_soon(stand.connections.add, "late")  # type: ignore[method-assign,assignment]
    task = stand.start()
    assert not await ended(task)
    stand.connections.clear()
    await asyncio.wait_for(task, 5)


async def test_the_delay_comes_before_anything_is_closed(stand: Stand) -> None:
    stand.connections.clear()
    task = stand.start(drain_delay_secs=60)
    assert not await ended(task)
    assert stand.asked == ["drain"]
    stand.hurry.set()  # a second signal ends that too
    await asyncio.wait_for(task, 5)
    assert stand.asked == ["drain", "last call", "stop"]


@pytest.mark.parametrize("by", ["signal", "limit"])
async def test_what_is_cut_off_is_told(stand: Stand, by: str) -> None:
    task = stand.start(drain_timeout_secs=60 if by == "signal" else 0.01)
    if by == "signal":
        stand.hurry.set()
    await asyncio.wait_for(task, 5)
    why = "a second signal came" if by == "signal" else "server.drain-timeout-secs (0.01 s)"
    assert stand.log.lines == [("warn", f"1 connections are cut off: {why}")]


async def test_nothing_is_said_of_a_server_whose_address_cant_be_had(stand: Stand) -> None:
    config = Config(server=ServerConfig(host="2001:db8::1", port=80))  # nobody's: of the range for examples
    with pytest.raises(FdRouterError, match=r"can't listen on \[2001:db8::1\]:80"):
        make_listener(config, stand, None, stand.log)  # type: ignore[arg-type]
    assert stand.log.lines == []
