from __future__ import annotations

import random
import sys
from types import FrameType

import pytest

from fd_router.capacity.headroom import Headroom
from fd_router.capacity.limits import Limits
from fd_router.capacity.slow_start import SlowStart
from fd_router.instances.instance import Instance
from fd_router.instances.registration import parse_registration
from fd_router.instances.registry import Registry
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.policies import POLICIES, make_policy
from fd_router.scheduling.scheduler import Scheduler
from tests.support.fake_log import FakeLog
from tests.support.live import live_config
from tests.support.scheduling_fakes import FakeRequest


class World:
    """Instances that are warm, unless they come later; a window of 10 s."""

    def __init__(self, warm: int = 3, cap: int = 0) -> None:
        self.now = 1000.0
        self.registry = Registry(clock=lambda: self.now, log=FakeLog(), live=live_config())
        self.limits = Limits(self.registry, Headroom(), cap)
        self.slow_start = SlowStart(self.registry, self.limits, 10.0, clock=lambda: self.now)
        self.warm = [self.add(number) for number in range(1, warm + 1)]
        self.wait(11)

    def add(self, number: int) -> Instance:
        return self.registry.register(parse_registration({"role": "mixed", "host_ip": f"10.0.0.{number}", "port": 80}))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.slow_start.tick()

    def load(self, requests: int) -> None:
        for instance in self.warm:
            for _ in range(requests):
                instance.acquire(0)


def test_a_newcomer_rises_to_what_the_others_have() -> None:
    world = World()
    world.load(20)
    new = world.add(9)
    limits = [new.limit]
    for _ in range(10):
        world.wait(1)
        limits.append(new.limit)
    assert limits == [1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 0]
    assert [each.limit for each in world.warm] == [0, 0, 0]


def test_it_follows_the_others_loads() -> None:
    world = World()
    new = world.add(9)
    world.wait(5)
    assert new.limit == 1, "at least one: all are idle"
    world.load(10)
    world.wait(0)
    assert new.limit == 5


def test_when_all_are_new_there_is_no_limit() -> None:
    world = World(0)
    one, two = world.add(1), world.add(2)
    assert (one.limit, two.limit) == (0, 0)


def test_among_the_young_the_older_have_more() -> None:
    world = World(0)
    first, second = world.warm = [world.add(1), world.add(2)]
    world.load(10)
    world.wait(2)
    third = world.add(3)
    assert (first.limit, second.limit, third.limit) == (0, 0, 1)
    limits = []
    for _ in range(4):
        world.wait(2)
        limits.append(third.limit)
    assert limits == [5, 7, 8, 8], "2 of 4 s, 4 of 6, 6 of 8, and when the others are warm"
    world.wait(2.1)
    assert (first.limit, second.limit, third.limit) == (0, 0, 0)


def test_shares_of_elders_that_are_young_themselves_are_taken_into_account() -> None:
    world = World(1)
    one = world.warm[0]
    world.load(20)
    two = world.add(2)
    world.wait(5)
    assert two.limit == 10
    for _ in range(10):
        two.acquire(0)
    three = world.add(3)
    world.wait(2)
    assert (one.limit, two.limit, three.limit) == (0, 14, 4), "30 requests at one and seven tenths of an instance"


def test_a_moment_makes_nobody_older() -> None:
    world = World(0)
    world.warm = [world.add(1)]
    world.load(20)
    world.wait(0.9)
    assert world.add(2).limit == 0
    world.wait(0.2)
    assert world.add(3).limit == 1


def calls_when_registering(number_of_instances: int) -> int:
    """Return how many functions are called while so many come at once, and until the next tick is over."""
    calls = 0

    def count(_frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call"

    world = World(0)
    addresses = [(number // 250, number % 250 + 1) for number in range(number_of_instances)]
    all_fields = [{"role": "mixed", "host_ip": f"10.1.{high}.{low}", "port": 80} for high, low in addresses]
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for fields in all_fields:
            world.registry.register(parse_registration(fields))
            world.now += 0.01
        world.wait(0.1)
    finally:
        sys.setprofile(before)
    return calls


def test_each_that_comes_looks_once_at_the_others_at_most() -> None:
    few, many = calls_when_registering(50), calls_when_registering(200)
    assert many < few * 4**2 * 1.2, "twice as many instances: four times as much, not eight times"


def test_a_newcomer_that_is_left_alone_gets_everything_at_once() -> None:
    world = World(1)
    new = world.add(9)
    assert new.limit == 1
    world.registry.probe_failed(world.warm[0], "no answer")
    assert new.limit == 0


def test_one_that_was_down_is_new_again_and_one_that_was_only_suspected_is_not() -> None:
    world = World()
    world.load(20)
    one = world.warm[0]
    world.registry.connection_failed(one, "reset")
    world.registry.probe_succeeded(one)
    assert one.limit == 0
    world.registry.probe_failed(one, "no answer")
    world.registry.probe_succeeded(one)
    assert one.limit == 1
    world.registry.probe_failed(one, "no answer")
    assert one.limit == 0
    world.registry.remove(one.key)
    assert world.add(1) is one
    assert one.limit == 1
    assert repr(world.slow_start) == "<SlowStart 10 s, 1 warming up>"


def test_a_cap_holds_beside_it() -> None:
    world = World(cap=4)
    world.load(4)
    new = world.add(9)
    world.wait(9.9)
    assert new.limit == 4
    world.wait(0.2)
    assert new.limit == 4


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_with_every_policy_its_share_grows(policy: str) -> None:
    """1,000 requests, 30 at a time, of the same length: what the newcomer gets in each third of the window."""
    world = World()
    rng = random.Random(1)
    environment = Environment(lambda: world.now, rng)
    scheduler = Scheduler[Instance](world.registry.group("mixed"), make_policy(policy, environment), lambda: "none")
    running = [scheduler.select(FakeRequest(f"prompt {number} " * 20)) for number in range(30)]
    new = world.add(9)
    got = [0, 0, 0, 0]
    for number in range(1000):
        running.pop(0).release()
        decision = scheduler.select(FakeRequest(f"prompt {number + 30} " * 20))
        decision.first_token()  # by which ttft_aware learns
        decision.prefill_done()
        running.append(decision)
        got[min(3, number // 250)] += decision.instance is new
        world.wait(0.0125)
    assert got[0] < got[3] * 0.6
    assert got[0] < 250 * 0.15
    assert got[3] > 0
