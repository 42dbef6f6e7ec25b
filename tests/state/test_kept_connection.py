"""The connection that the bus keeps: one command at a time, and none that nobody knows the state of."""

from __future__ import annotations

import asyncio

import pytest

from fd_router.state.redis.kept_connection import KeptConnection


class Connection:
    """Answers with what it was asked, once ``may_answer``."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.is_connected = True
        self.breaks = False

    async def send_command(self, *command, check_health):
        assert not check_health
        self.command = command

    async def read_response(self):
        await self.may_answer.wait()
        if self.breaks:
            raise ConnectionError("gone")
        return self.command

    async def disconnect(self, *, nowait):
        assert nowait
        self.is_connected = False


class Pool:
    """Also the client whose pool it is."""

    def __init__(self) -> None:
        self.connection_pool = self
        self.given: list[Connection] = []
        self.back: list[Connection] = []

    async def get_connection(self):
        self.given.append(Connection())
        return self.given[-1]

    async def release(self, connection):
        self.back.append(connection)


async def test_commands_that_follow_each_other_go_over_one_connection() -> None:
    kept = KeptConnection(pool := Pool(), 5.0)
    assert [await kept.ask("A", 1), await kept.ask("B")] == [("A", 1), ("B",)]
    assert (len(pool.given), pool.back) == (1, [])


async def test_who_asks_meanwhile_has_another_one_of_which_one_is_kept() -> None:
    kept = KeptConnection(pool := Pool(), 5.0)
    await kept.ask("A")
    pool.given[0].may_answer.clear()
    slow = asyncio.ensure_future(kept.ask("B"))
    await asyncio.sleep(0)
    assert await kept.ask("C") == ("C",)
    pool.given[0].may_answer.set()
    assert await slow == ("B",)
    assert (len(pool.given), pool.back) == (2, [pool.given[0]])
    assert pool.given[0].is_connected


async def test_after_a_failure_it_is_connected_anew() -> None:
    kept = KeptConnection(pool := Pool(), 5.0)
    await kept.ask("A")
    pool.given[0].breaks = True
    with pytest.raises(ConnectionError):
        await kept.ask("B")
    assert (pool.given[0].is_connected, pool.back) == (False, pool.given)
    assert await kept.ask("C") == ("C",)
    assert len(pool.given) == 2


async def test_an_answer_that_does_not_come_in_time_is_never_taken_for_anothers() -> None:
    kept = KeptConnection(pool := Pool(), 0.01)
    await kept.ask("A")
    pool.given[0].may_answer.clear()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.01 s"):
        await kept.ask("B")
    assert not pool.given[0].is_connected
    assert await kept.ask("C") == ("C",)
    assert len(pool.given) == 2


async def test_one_that_is_dropped_is_connected_anew() -> None:
    kept = KeptConnection(pool := Pool(), 5.0)
    await kept.ask("A")
    await kept.drop()
    await kept.drop()  # there is none
    assert (pool.given[0].is_connected, pool.back) == (False, pool.given)
    await kept.ask("B")
    assert len(pool.given) == 2
