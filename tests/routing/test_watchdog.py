from __future__ import annotations

import asyncio
import gc

import pytest

from fd_router.routing.single import SingleInstanceRequest
from fd_router.routing.watchdog import Watchdog
from fd_router.telemetry.record import RequestRecord
from tests.routing.test_request_queue import CrowdedRig
from tests.routing.test_single import error_of
from tests.support.live import change, live_config
from tests.support.rig import STREAM_HEAD, Rig, answer, chunk, post


class Request:
    def __init__(self) -> None:
        self.record = RequestRecord("POST", "/", "", 0.0)
        self.overdue: list[float] = []
        self.waits_until = 0.0
        self.bytes_sent = 0

    def on_overdue(self, seconds: float) -> None:
        self.overdue.append(seconds)


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.requests = [Request()]
        self.live = live_config(
            scheduler={"tokenizer_timeout_secs": 2.0},
            proxy={"connect_timeout_secs": 3.0, "first_byte_timeout_secs": 20.0, "stall_timeout_secs": 5.0},
        )  # 30 s before the first byte, 10 s after it, the slack included
        self.sweep = Watchdog(lambda: self.requests, self.live, lambda: self.now)

    def wait(self, seconds: float) -> list[float]:
        self.now += seconds
        self.sweep.sweep()
        return self.requests[0].overdue


def test_before_the_first_byte_and_after_it() -> None:
    world = World()
    record = world.requests[0].record
    assert world.wait(0) == []
    assert world.wait(30) == []
    record.attempts = 1
    assert world.wait(1) == []
    assert world.wait(29) == []
    record.first_byte_at = 5.0
    assert world.wait(5) == []
    assert world.wait(10) == []
    assert world.wait(1) == [11.0]


async def test_a_bug_with_one_keeps_none_of_the_others() -> None:
    bugs: list[Exception] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context["exception"]))

    class Broken(Request):
        def on_overdue(self, seconds: float) -> None:
            raise ZeroDivisionError

    world = World()
    world.requests.insert(0, Broken())
    world.wait(0)
    world.wait(31)
    assert world.requests[1].overdue == [31.0]
    assert [type(bug) for bug in bugs] == [ZeroDivisionError]


@pytest.mark.parametrize("seconds", [1, 9])
def test_bytes_are_a_sign_of_life(seconds: int) -> None:
    world = World()
    world.requests[0].record.first_byte_at = 1.0
    for _ in range(30):
        world.requests[0].bytes_sent += 1
        assert world.wait(seconds) == []


def test_the_ended_are_forgotten() -> None:
    world = World()
    world.wait(0)
    assert repr(world.sweep) == "<Watchdog 1 seen>"
    world.requests.clear()
    world.sweep.sweep()
    assert repr(world.sweep) == "<Watchdog 0 seen>"


class TestQueue:
    """What waits in the queue has a time limit of its own, which a reload doesn't change."""

    def test_its_time_is_no_silence(self) -> None:
        world = World()
        world.requests[0].waits_until = 100.0
        world.wait(0)
        assert world.wait(100) == []
        assert world.wait(30) == []
        assert world.wait(1) == [131.0]

    async def test_a_shorter_time_limit_is_for_those_that_come_later(self) -> None:
        rig = CrowdedRig(max_queued=9, queue_timeout_secs=600.0)
        await rig.send("a")
        waiting = await rig.send("b")
        watchdog = Watchdog(rig.state.proxied_requests, rig.live, rig.timers.time)
        watchdog.sweep()
        change(
            rig.live,
            admission={"queue_timeout_secs": 1.0},
            proxy={"connect_timeout_secs": 1.0, "first_byte_timeout_secs": 1.0},
        )
        for _ in range(10):
            rig.timers.now += 20  # no timers: only the watchdog looks
            watchdog.sweep()
        await rig.settle()
        assert waiting.take() == b""
        later = await rig.send("c")
        await rig.pass_time(2)
        assert b'"queue_timeout"' in later.take()


class TestReload:
    """A request goes by the time limits that were in force when it began to wait."""

    def test_longer_limits_are_seen(self) -> None:
        world = World()
        world.wait(0)
        change(world.live, proxy={"first_byte_timeout_secs": 60.0, "stall_timeout_secs": 50.0})
        assert world.wait(70) == []
        assert world.wait(1) == [71.0]
        world.requests[0].record.first_byte_at = 1.0
        world.wait(0)
        assert world.wait(55) == [71.0]
        assert world.wait(1) == [71.0, 56.0]

    def test_shorter_ones_are_for_what_begins_later(self) -> None:
        world = World()
        world.wait(0)
        change(world.live, proxy={"first_byte_timeout_secs": 1.0})  # 11 s in all
        assert world.wait(30) == []
        assert world.wait(1) == [31.0]
        world.wait(0)
        assert world.wait(12) == [31.0, 12.0]

    def test_what_began_just_before_a_reload_was_not_seen_before_it(self) -> None:
        world = World()
        request, world.requests = world.requests, []
        world.sweep.sweep()
        world.requests = request
        change(world.live, proxy={"first_byte_timeout_secs": 1.0})
        world.wait(1)
        assert world.wait(30) == []
        assert world.wait(1) == [31.0]


class TestRequests:
    """Requests whose connections have lost their time limits, as a bug would have it."""

    async def test_one_that_waits_is_answered(self) -> None:
        rig = Rig()
        client = rig.client()
        client.receive(post())
        await rig.settle()
        (request,) = rig.state.proxied_requests()
        request.on_overdue(99.0)
        request.on_overdue(99.0)
        await rig.settle()
        assert error_of(client.take()) == (504, "Nothing happened to the request for 99 s")
        assert "A request without a sign of life for 99 s was ended" in rig.outlet.text
        assert rig.state.proxied_requests() == []
        rig.assert_nothing_is_held()

    async def test_one_in_mid_answer_is_cut_off(self) -> None:
        rig = Rig()
        client = rig.client()
        instance = await rig.ask(client, b'{"prompt": "hello", "stream": true}')
        instance.receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
        await rig.settle()
        client.take()
        (request,) = rig.state.proxied_requests()
        request.on_overdue(99.0)
        await rig.settle()
        assert client.take() == b""
        assert client.is_closing()
        rig.assert_nothing_is_held()

    async def test_the_ledger_counts_connections(self) -> None:
        rig = Rig(1)
        key = rig.instances[0].key
        assert rig.pools.busy(key) == 0
        first = await rig.ask(rig.client())
        second = await rig.ask(rig.client())
        assert rig.pools.busy(key) == rig.instances[0].running == 2
        first.receive(answer())
        await rig.settle()
        assert rig.pools.busy(key) == rig.instances[0].running == 1
        rig.pools.retire(key)  # removed, and registered again, while a request runs
        third = await rig.ask(rig.client())
        assert rig.pools.busy(key) == rig.instances[0].running == 2
        for instance in (second, third):
            instance.receive(answer())
        await rig.settle()
        assert rig.pools.busy(key) == rig.instances[0].running == 0


def live_requests() -> dict[int, SingleInstanceRequest]:
    """Return those that are there, by id, which is no other's while this holds them."""
    gc.collect()
    return {id(one): one for one in gc.get_objects() if isinstance(one, SingleInstanceRequest)}


async def test_it_keeps_no_request_that_is_over() -> None:
    rig, before = Rig(), live_requests()
    watchdog = Watchdog(rig.state.proxied_requests, rig.live, rig.timers.time)
    instance = await rig.ask(rig.client())
    watchdog.sweep()
    instance.receive(answer())
    await rig.settle()
    assert live_requests().keys() <= before.keys()
    watchdog.sweep()
    assert repr(watchdog) == "<Watchdog 0 seen>"
