from __future__ import annotations

import asyncio

import pytest

from fd_router.capacity.count_audit import CERTAIN_AFTER, LASTING_SECS, CountAuditor
from fd_router.instances.instance import Instance
from fd_router.instances.registration import parse_registration
from tests.support.fake_log import FakeLog
from tests.support.turns import slice_finely


class World:
    """One instance; tests say how many connections to it are busy."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.instance = Instance(parse_registration({"role": "mixed", "host_ip": "10.0.0.1", "port": 8000}))
        self.members = [self.instance]
        self.busy = 0
        self.repairs: list[tuple[str, int]] = []
        self.log = FakeLog()
        self.ledger = CountAuditor(
            lambda: self.members, lambda _: self.busy, clock=lambda: self.now, log=self.log, counters=self
        )

    def repaired(self, url: str, requests: int) -> None:
        self.repairs.append((url, requests))

    def acquire(self, requests: int, tokens: int = 0) -> None:
        for _ in range(requests):
            self.instance.acquire(tokens)

    def audit(self, times: int = CERTAIN_AFTER) -> None:
        for _ in range(times):
            self.ledger.audit()

    @property
    def counts(self) -> tuple[int, int]:
        return self.instance.running, self.instance.tokens


def test_true_counts_are_left_alone() -> None:
    world = World()
    world.acquire(5, 10)
    world.busy = 7  # a probe, and a drained prefill
    world.audit(9)
    assert world.counts == (5, 50)
    assert world.repairs == []
    assert world.log.lines == []


def test_a_leak_is_put_right_when_it_is_certain() -> None:
    world = World()
    world.acquire(5)
    world.busy = 2
    world.audit(CERTAIN_AFTER - 1)
    assert world.counts == (5, 0)
    world.audit(1)
    assert world.counts == (2, 0)
    assert world.repairs == [("http://10.0.0.1:8000", 3)]
    ((level, line),) = world.log.lines
    assert level == "error"
    assert line.startswith("Count of http://10.0.0.1:8000 put right, from 5 requests and 0 tokens to 2 and 0: ")
    world.audit(9)
    assert len(world.repairs) == 1


def test_only_what_was_too_much_every_time_is_taken_away() -> None:
    world = World()
    world.acquire(5)
    for busy in (1, 4, 2):
        world.busy = busy
        world.audit(1)
    assert world.counts == (4, 0)


def test_a_moment_of_truth_begins_the_counting_anew() -> None:
    world = World()
    world.acquire(5)
    for busy in (1, 1, 5, 1, 1, 5):
        world.busy = busy
        world.audit(1)
    assert world.counts == (5, 0)


def test_tokens_without_requests_and_counts_below_zero() -> None:
    world = World()
    world.instance.tokens = 90
    world.audit()
    assert world.counts == (0, 0)
    world.instance.running, world.instance.tokens = -2, -7
    world.audit()
    assert world.counts == (0, 0)
    assert [number for _, number in world.repairs] == [0, 2]


def test_a_leak_that_kept_an_instance_saturated_gives_headroom() -> None:
    world = World()
    told: list[bool] = []
    world.instance.on_limit = lambda _, is_saturated: told.append(is_saturated)
    world.instance.limit = 3
    world.acquire(3)
    world.audit()
    assert told == [True, False]


def test_an_engine_that_knows_of_fewer_requests_for_long_is_told_once() -> None:
    world = World()
    world.acquire(5)
    for _ in range(20):
        world.ledger.compare(world.instance, 3.0, 5)
        world.now += LASTING_SECS / 10
    ((level, line),) = world.log.lines
    assert level == "warn"
    assert line == (
        "http://10.0.0.1:8000 knows of 2 requests fewer than it was sent, for 30 s: they may be lost; they end by "
        "their time limits"
    )
    assert list(world.ledger.gaps()) == [(world.instance, 2)]
    world.ledger.compare(world.instance, 5.0, 5)
    assert world.log.lines[1:] == [("info", "http://10.0.0.1:8000 knows of all its requests again")]


@pytest.mark.parametrize(("at_engine", "own", "running"), [(9, 5, 5), (0, 0, 5), (0, 5, 0), (5, 5, 5)])
def test_what_is_no_difference(at_engine: int, own: int, running: int) -> None:
    """The engine serves others too; what began, or ended, while it was asked."""
    world = World()
    world.acquire(running)
    for _ in range(20):
        world.ledger.compare(world.instance, at_engine, own)
        world.now += LASTING_SECS
    assert world.log.lines == []


def test_a_gap_that_closes_now_and_then_is_none() -> None:
    world = World()
    world.acquire(5)
    for at_engine in (3, 5) * 20:
        world.ledger.compare(world.instance, at_engine, 5)
        world.now += LASTING_SECS * 0.9
    assert world.log.lines == []


def test_who_is_gone_is_forgotten() -> None:
    world = World()
    world.acquire(1)
    world.ledger.compare(world.instance, 0.0, 1)
    assert repr(world.ledger) == "<CountAuditor 1 compared with their engines>"
    world.members.clear()
    world.audit(1)
    assert list(world.ledger.gaps()) == []


async def test_others_have_turns_while_a_large_fleet_is_audited(monkeypatch: pytest.MonkeyPatch) -> None:
    world, looked = World(), [0]
    world.acquire(1)

    def busy(_: Instance) -> int:
        looked[-1] += 1
        return 1

    ledger = CountAuditor(
        lambda: world.members * 50, busy, clock=lambda: world.now, log=world.log, counters=world, interval=0
    )
    slice_finely(monkeypatch)
    auditing = asyncio.create_task(ledger.run())
    while sum(looked) < 50:
        await asyncio.sleep(0)
        looked.append(0)
    auditing.cancel()
    assert max(looked) == 1


def test_only_where_this_router_counts_something_connections_are_looked_at() -> None:
    world, looked = World(), []
    idle = Instance(parse_registration({"role": "mixed", "host_ip": "10.0.0.2", "port": 8000}))
    idle.count_elsewhere(3, 30)
    world.acquire(1)

    def busy(instance: Instance) -> int:
        looked.append(instance)
        return 1

    ledger = CountAuditor(
        lambda: [idle, world.instance], busy, clock=lambda: world.now, log=world.log, counters=world, interval=0
    )
    ledger.audit()
    assert looked == [world.instance]
