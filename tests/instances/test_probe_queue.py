from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import pairwise

import pytest

from fd_router.instances.probe_queue import ENDED_A_TURN, ProbeQueue
from fd_router.instances.registration import Registration


class Prober:
    """Begins each probe that it is given, and ends it when it is told to."""

    def __init__(self, most: int = 2) -> None:
        self.queue = ProbeQueue(self.probe, self.on_done, most=most)
        self.begun: list[str] = []
        self.done: list[str] = []
        self.ends: dict[str, asyncio.Future[str]] = {}
        self.learns: asyncio.Event | None = None

    async def probe(self, registration: Registration) -> str:
        key = registration.key
        self.begun.append(key)
        self.ends[key] = asyncio.get_running_loop().create_future()
        if self.learns is not None:
            with self.queue.away():
                await self.learns.wait()
        return await self.ends[key]

    def on_done(self, key: str) -> None:
        self.done.append(key)


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., Prober]]:
    made: list[Prober] = []

    def make(most: int = 2) -> Prober:
        made.append(Prober(most))
        return made[-1]

    yield make
    for prober in made:
        await prober.queue.stop()
    assert len(asyncio.all_tasks()) == 1


async def test_so_many_at_once_the_others_in_their_order(make, describe) -> None:
    prober = make()
    found = [prober.queue.start(describe(port)) for port in range(1, 5)]
    keys = [describe(port).key for port in range(1, 5)]
    await turns()
    assert prober.begun == keys[:2]
    assert repr(prober.queue) == "<ProbeQueue: 2 begun, 2 wait>"
    assert list(prober.queue) == keys
    prober.ends[keys[1]].set_result("yes")
    assert await found[1] == "yes"
    await turns()
    assert prober.begun == keys[:3]
    assert prober.done == [keys[1]]
    assert keys[1] not in prober.queue
    assert keys[3] in prober.queue


async def test_one_of_an_instance_whether_it_waits_or_has_begun(make, describe) -> None:
    prober = make(1)
    first, second = (prober.queue.start(describe(port)) for port in (1, 2))
    assert prober.queue.start(describe(1)) is first
    assert prober.queue.start(describe(2)) is second
    assert len(prober.queue) == 2
    assert prober.queue.has_begun(describe(1).key)
    assert not prober.queue.has_begun(describe(2).key), "what it will find isn't old"


async def test_what_waits_is_no_task(make, describe) -> None:
    prober, before = make(2), len(asyncio.all_tasks())
    for port in range(1, 1001):
        prober.queue.start(describe(port))
    assert len(prober.queue) == 1000
    assert len(asyncio.all_tasks()) == before + 2


async def test_one_that_is_over_is_not_joined(make, describe) -> None:
    """Whoever asks anew just then has a reason to: what is found is older than that."""
    prober, key = make(), describe(1).key
    found = prober.queue.start(describe(1))
    await turns()
    prober.ends[key].set_result("old")
    await asyncio.sleep(0)
    assert not prober.queue.has_begun(key)
    assert not found.done(), "nobody has been told yet"
    again = prober.queue.start(describe(1))
    assert again is not found
    await turns()
    prober.ends[key].set_result("new")
    assert (await found, await again) == ("old", "new")
    assert prober.done.count(key) == 2


async def test_what_a_probe_meets_is_told_and_makes_room(make, describe) -> None:
    prober, key = make(1), describe(1).key
    found, other = prober.queue.start(describe(1)), prober.queue.start(describe(2))
    await turns()
    prober.ends[key].set_exception(ValueError("odd"))
    with pytest.raises(ValueError, match="odd"):
        await found
    await turns()
    assert prober.begun == [key, describe(2).key]
    assert not other.done()


async def test_another_one_begins_while_one_does_something_else(make, describe) -> None:
    prober = make(1)
    prober.learns = asyncio.Event()
    prober.queue.start(describe(1))
    prober.queue.start(describe(2))
    await turns()
    assert prober.begun == [describe(1).key, describe(2).key]
    prober.learns.set()
    await turns()
    prober.queue.start(describe(3))
    await turns()
    assert len(prober.begun) == 2, "both are back"


async def test_all_end_when_it_stops_also_what_is_asked_for_meanwhile(make, describe) -> None:
    prober = make(2)
    found = [prober.queue.start(describe(port)) for port in range(1, 6)]
    await turns()
    stopping = asyncio.create_task(prober.queue.stop())
    await asyncio.sleep(0)
    found.append(prober.queue.start(describe(6)))
    await stopping
    assert all(each.cancelled() for each in found)
    assert sorted(prober.done) == sorted(describe(port).key for port in range(1, 7))
    assert prober.begun == [describe(1).key, describe(2).key], "nothing began any more"
    again = prober.queue.start(describe(1))
    await turns()
    prober.ends[describe(1).key].set_result("yes")
    assert await again == "yes"


async def test_thousands_that_end_leave_turns_to_others(make, describe) -> None:
    prober = make(200)
    for port in range(1, 5001):
        prober.queue.start(describe(port))
    await turns()
    assert len(prober.begun) == 200
    stopping = asyncio.create_task(prober.queue.stop())
    left = [200]
    while not stopping.done():
        await asyncio.sleep(0)
        left.append(sum(not end.done() for end in prober.ends.values()))
    assert left[-1] == 0
    assert max(before - after for before, after in pairwise(left)) <= ENDED_A_TURN
