from __future__ import annotations

import pytest

from fd_router.routing.watchdog import Watchdog
from fd_router.telemetry.record import RequestRecord
from tests.routing.test_single import error_of
from tests.support.live import live_config
from tests.support.rig import STREAM_HEAD, Rig, answer, chunk, post


class Request:
    def __init__(self) -> None:
        self.record = RequestRecord("POST", "/", "", 0.0)
        self.overdue: list[float] = []

    def on_overdue(self, seconds: float) -> None:
        self.overdue.append(seconds)


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.requests = [Request()]
        self.live = live_config(
            admission={"queue_timeout_secs": 20.0},
            scheduler={"tokenizer_timeout_secs": 1.0},
            proxy={"connect_timeout_secs": 1.0, "first_byte_timeout_secs": 3.0, "stall_timeout_secs": 5.0},
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


@pytest.mark.parametrize("seconds", [1, 9])
def test_bytes_are_a_sign_of_life(seconds: int) -> None:
    world = World()
    world.requests[0].record.first_byte_at = 1.0
    for _ in range(30):
        world.requests[0].record.bytes_out += 1
        assert world.wait(seconds) == []


def test_the_ended_are_forgotten() -> None:
    world = World()
    world.wait(0)
    assert repr(world.sweep) == "<Watchdog 1 seen>"
    world.requests.clear()
    world.sweep.sweep()
    assert repr(world.sweep) == "<Watchdog 0 seen>"


class TestExchanges:
    """Exchanges whose connections have lost their time limits, as a bug would have it."""

    async def test_one_that_waits_is_answered(self) -> None:
        rig = Rig()
        client = rig.client()
        client.receive(post())
        await rig.settle()
        (exchange,) = rig.state.proxied_requests()
        exchange.on_overdue(99.0)
        exchange.on_overdue(99.0)
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
        (exchange,) = rig.state.proxied_requests()
        exchange.on_overdue(99.0)
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
