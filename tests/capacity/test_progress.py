"""Instances that are stuck: their streams are silent while others' go on."""

from __future__ import annotations

import asyncio

import pytest

from fd_router.capacity.headroom import Headroom
from fd_router.capacity.limits import Limits
from fd_router.capacity.progress import INTERVAL_SECS, Progress
from fd_router.instances.instance import Instance
from fd_router.instances.registration import parse_registration
from fd_router.instances.registry import Registry
from tests.support.fake_log import FakeLog
from tests.support.live import live_config
from tests.support.turns import slice_finely


class World:
    """Instances with streams that get bytes every ``pauses`` seconds; 0: no more."""

    def __init__(self, size: int = 3, role: str = "mixed") -> None:
        self.now = 1000.0
        self.log = FakeLog()
        self.room = 0
        self.registry = Registry(clock=lambda: self.now, log=FakeLog(), live=live_config())
        self.streams: dict[str, tuple[int, float, float]] = {}
        self.progress = Progress(
            self.registry, Limits(self.registry, Headroom()), lambda key: self.streams.get(key, (0, 0.0, 0.0)),
            self.on_capacity, min_share=0.5, clock=lambda: self.now, log=self.log,
        )  # fmt: skip
        self.members: list[Instance] = []
        for number in range(1, size + 1):
            described = parse_registration({"role": role, "host_ip": f"10.0.0.{number}", "port": 80})
            self.members.append(self.registry.register(described))
            self.members[-1].acquire(0)  # whose stream that is
        self.pauses = [0.05] * size

    def on_capacity(self) -> None:
        self.room += 1

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds / INTERVAL_SECS)):
            self.now += INTERVAL_SECS
            for member, pause in zip(self.members, self.pauses, strict=True):
                _, last, delivering = self.streams.get(member.key, (1, self.now, 0.0))
                if pause and self.now - last >= pause:
                    self.streams[member.key] = (1, self.now - self.now % pause if pause < 1 else self.now, 0.0)
                else:
                    self.streams[member.key] = (1, last, delivering)
            self.progress.tick()

    def stuck(self) -> list[int]:
        return [number for number, member in enumerate(self.members) if member.is_stuck]


def test_one_that_is_silent_for_ten_seconds_while_others_go_on() -> None:
    world = World()
    world.wait(5)
    world.pauses[0] = 0
    world.wait(9.5)
    assert world.stuck() == []
    world.wait(1.5)
    assert world.stuck() == [0]
    assert world.registry.group("mixed").candidates() == tuple(world.members[1:])
    (line,) = (line for level, line in world.log.lines if level == "warn")
    assert line.startswith("http://10.0.0.1:80 is stuck: nothing came of its streams for 1")
    world.wait(30)
    assert len(world.log.lines) == 1


def test_when_bytes_come_again_it_is_as_good_as_before() -> None:
    world = World()
    world.wait(5)
    world.pauses[0] = 0
    world.wait(12)
    world.pauses[0] = 0.05
    world.wait(1)
    assert world.stuck() == []
    assert (world.room, world.members[0].limit) == (1, 0)


def test_slow_streams_have_more_time() -> None:
    world = World()
    world.pauses[0] = 2
    world.wait(20)
    world.pauses[0] = 0
    world.wait(38)
    assert world.stuck() == []
    world.wait(6)
    assert world.stuck() == [0]


def test_where_nobody_goes_on_nobody_is_stuck() -> None:
    world = World()
    world.wait(5)
    world.pauses[:] = [0, 0, 0]
    world.wait(60)
    assert world.stuck() == []


def test_enough_are_left() -> None:
    world = World()
    world.wait(5)
    world.pauses[:] = [0, 0, 0.05]
    world.wait(30)
    assert len(world.stuck()) == 1, "of three, two must be left"


def test_a_stream_that_got_nothing_but_its_beginning_says_nothing() -> None:
    world = World()
    world.streams[world.members[0].key] = (1, world.now, 0.0)
    world.pauses[0] = 0
    world.wait(60)
    assert world.stuck() == []


def test_streams_that_delivered_between_two_looks_only() -> None:
    world = World()
    world.streams[world.members[0].key] = (1, world.now, 0.3)
    world.pauses[0] = 0
    world.wait(9.5)
    assert world.stuck() == []
    world.wait(1.5)
    assert world.stuck() == [0]


def test_prefill_instances_are_not_judged() -> None:
    world = World(role="prefill")
    world.wait(5)
    world.pauses[0] = 0
    world.wait(60)
    assert world.stuck() == []


def test_when_its_streams_end_it_must_answer_one_first() -> None:
    world = World()
    world.wait(5)
    world.pauses[0] = 0
    world.wait(12)
    one = world.members[0]
    world.streams[one.key] = (0, 0.0, 0.0)
    world.progress.tick()
    assert (one.is_stuck, one.limit, world.room) == (False, 1, 1)
    world.progress.tick()
    assert one.limit == 1
    one.answered_at = world.now + 1
    world.progress.tick()
    assert one.limit == 0


@pytest.mark.parametrize("is_stuck", [False, True])
def test_one_that_is_removed_comes_back_as_new(is_stuck: bool) -> None:
    world = World()
    world.wait(5)
    world.pauses[0] = 0
    world.wait(12 if is_stuck else 1)
    world.registry.remove(world.members[0].key)
    again = world.registry.register(world.members[0].registration)
    assert again.takes_new
    world.wait(30)
    assert not again.is_stuck


async def test_one_that_is_removed_while_the_others_are_looked_at_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slice_finely(monkeypatch)
    monkeypatch.setattr("fd_router.capacity.progress.INTERVAL_SECS", 0.001)
    world = World()
    world.wait(5)
    world.pauses[2] = 0
    world.wait(12)
    assert world.stuck() == [2]
    last, looked = world.members[2], asyncio.Event()

    def streaming(key: str) -> tuple[int, float, float]:
        if key == world.members[0].key:
            looked.set()
        return world.streams[key] if key != last.key else (0, 0.0, 0.0)  # all of its streams end

    async def remove() -> None:
        await looked.wait()
        world.registry.remove(last.key)

    world.progress._streaming = streaming
    running, removing = asyncio.create_task(world.progress.run()), asyncio.create_task(remove())
    await removing
    for _ in range(10):
        await asyncio.sleep(0)
    running.cancel()
    last.release()
    again = world.registry.register(last.registration)
    assert (again.limit, again.is_stuck) == (0, False)
