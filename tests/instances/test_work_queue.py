from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import pairwise

import pytest

from fd_router.instances.work_queue import ENDED_A_TURN, WorkQueue


class Worker:
    """Begins what it is given, and ends it when it is told to."""

    def __init__(self, most: int = 2) -> None:
        self.queue = WorkQueue(self.work, most=most, on_done=self.on_done)
        self.begun: list[str] = []
        self.done: list[str] = []
        self.ends: dict[str, asyncio.Future[str]] = {}
        self.learns: asyncio.Event | None = None

    def start(self, port: int) -> asyncio.Future[str]:
        return self.queue.join(f"key {port}", port)

    async def work(self, port: int) -> str:
        key = f"key {port}"
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
async def make() -> AsyncIterator[Callable[..., Worker]]:
    made: list[Worker] = []

    def make(most: int = 2) -> Worker:
        made.append(Worker(most))
        return made[-1]

    yield make
    for worker in made:
        await worker.queue.stop()
    assert len(asyncio.all_tasks()) == 1


async def test_so_many_at_once_the_others_in_their_order(make) -> None:
    worker = make()
    found = [worker.start(port) for port in range(1, 5)]
    keys = [f"key {port}" for port in range(1, 5)]
    await turns()
    assert worker.begun == keys[:2]
    assert repr(worker.queue) == "<WorkQueue: 2 begun, 2 wait>"
    assert list(worker.queue) == keys
    worker.ends[keys[1]].set_result("yes")
    assert await found[1] == "yes"
    await turns()
    assert worker.begun == keys[:3]
    assert worker.done == [keys[1]]
    assert keys[1] not in worker.queue
    assert keys[3] in worker.queue


async def test_one_of_an_instance_whether_it_waits_or_has_begun(make) -> None:
    worker = make(1)
    first, second = (worker.start(port) for port in (1, 2))
    assert worker.start(1) is first
    assert worker.start(2) is second
    assert len(worker.queue) == 2
    assert worker.queue.has_begun("key 1")
    assert not worker.queue.has_begun("key 2"), "what it will find isn't old"


async def test_what_waits_is_about_what_was_said_last(make) -> None:
    asked: list[str] = []

    async def work(about: str) -> None:
        asked.append(about)

    queue = WorkQueue(work, most=1)
    for key, about in (("a", "first"), ("b", "old"), ("c", "third"), ("b", "new")):
        queue.start(key, about)
    await turns(10)
    assert asked == ["first", "new", "third"]


async def test_what_waits_is_no_task(make) -> None:
    worker, before = make(2), len(asyncio.all_tasks())
    for port in range(1, 1001):
        worker.start(port)
    assert len(worker.queue) == 1000
    assert len(asyncio.all_tasks()) == before + 2


async def test_one_that_is_over_is_not_joined(make) -> None:
    """Whoever asks anew just then has a reason to: what is found is older than that."""
    worker, key = make(), "key 1"
    found = worker.start(1)
    await turns()
    worker.ends[key].set_result("old")
    await asyncio.sleep(0)
    assert not worker.queue.has_begun(key)
    assert not found.done(), "nobody has been told yet"
    again = worker.start(1)
    assert again is not found
    await turns()
    worker.ends[key].set_result("new")
    assert (await found, await again) == ("old", "new")
    assert worker.done.count(key) == 2


async def test_what_one_meets_is_told_and_makes_room(make) -> None:
    worker, key = make(1), "key 1"
    found, other = worker.start(1), worker.start(2)
    await turns()
    worker.ends[key].set_exception(ValueError("odd"))
    with pytest.raises(ValueError, match="odd"):
        await found
    await turns()
    assert worker.begun == [key, "key 2"]
    assert not other.done()


async def test_another_one_begins_while_one_does_something_else(make) -> None:
    worker = make(1)
    worker.learns = asyncio.Event()
    worker.start(1)
    worker.start(2)
    await turns()
    assert worker.begun == ["key 1", "key 2"]
    worker.learns.set()
    await turns()
    worker.start(3)
    await turns()
    assert len(worker.begun) == 2, "both are back"


async def test_all_end_when_it_stops_also_what_is_asked_for_meanwhile(make) -> None:
    worker = make(2)
    found = [worker.start(port) for port in range(1, 6)]
    await turns()
    stopping = asyncio.create_task(worker.queue.stop())
    await asyncio.sleep(0)
    found.append(worker.start(6))
    await stopping
    assert all(each.cancelled() for each in found)
    assert sorted(worker.done) == sorted(f"key {port}" for port in range(1, 7))
    assert worker.begun == ["key 1", "key 2"], "nothing began any more"
    again = worker.start(1)
    await turns()
    worker.ends["key 1"].set_result("yes")
    assert await again == "yes"


async def test_thousands_that_end_leave_turns_to_others(make) -> None:
    worker = make(200)
    for port in range(1, 5001):
        worker.start(port)
    await turns()
    assert len(worker.begun) == 200
    stopping = asyncio.create_task(worker.queue.stop())
    left = [200]
    while not stopping.done():
        await asyncio.sleep(0)
        left.append(sum(not end.done() for end in worker.ends.values()))
    assert left[-1] == 0
    assert max(before - after for before, after in pairwise(left)) <= ENDED_A_TURN
