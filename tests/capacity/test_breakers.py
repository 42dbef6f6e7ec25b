"""The fleet's breakers: back-off, trials, panic, and what they do with membership."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.capacity.breaker import Circuit, TripLimits
from fd_router.capacity.breakers import PANIC_LINE_SECONDS, BreakerOptions, Breakers
from fd_router.capacity.headroom import Headroom
from fd_router.capacity.limits import Limits
from fd_router.instances.instance import Instance
from fd_router.instances.registration import parse_registration
from fd_router.instances.registry import Registry
from fd_router.instances.source import REGISTER_YAML
from tests.support.live import live_config


class Counted:
    def __init__(self) -> None:
        self.openings: list[str] = []
        self.panics: list[str] = []

    def opened(self, url: str) -> None:
        self.openings.append(url)

    def panicked(self, role: str) -> None:
        self.panics.append(role)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Lines(list[tuple[str, str]]):
    def info(self, message: str) -> None:
        self.append(("info", message))

    def warn(self, message: str) -> None:
        self.append(("warn", message))

    def error(self, message: str) -> None:
        self.append(("error", message))


class World:
    """A fleet of healthy instances with breakers that open after two failures in a row."""

    def __init__(self, size: int = 4, *, cap: int = 0, **options: Any) -> None:
        self.clock = Clock()
        self.log = Lines()
        self.counted = Counted()
        self.registry = Registry(clock=self.clock, log=self.log, live=live_config())
        self.limits = Limits(self.registry, Headroom(), cap)
        trip = TripLimits(in_a_row=2, share=0)
        self.breakers = Breakers(
            self.registry, self.limits, BreakerOptions(trip, **options),
            clock=self.clock, rng=random.Random(1), log=self.log, counters=self.counted,
        )  # fmt: skip
        self.instances = [self.add(number) for number in range(1, size + 1)]
        self.log.clear()

    def add(self, number: int, role: str = "mixed") -> Instance:
        return self.registry.register(parse_registration({"role": role, "host_ip": f"10.0.0.{number}", "port": 8000}))

    def fail(self, instance: Instance, times: int = 2) -> None:
        for _ in range(times):
            instance.failed("reset")

    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.breakers.tick()

    def open(self) -> list[int]:
        return [self.instances.index(x) + 1 for x in self.registry.group("mixed").candidates()]

    def circuit(self, instance: Instance) -> Circuit:
        assert instance.breaker is not None
        return instance.breaker.circuit

    def lines(self, about: str) -> list[str]:
        return [line for _, line in self.log if about in line]


def refuse(instance: Instance, status: int = 401) -> None:
    """Refuse three clients."""
    assert instance.breaker is not None
    for client in "abc":
        instance.breaker.refused(status, client)


def serve(instances: list[Instance], times: int) -> None:
    for instance in instances:
        assert instance.breaker is not None
        for _ in range(times):
            instance.breaker.answered(200)


def test_the_odd_one_out_that_refuses_everybody_gets_nothing() -> None:
    world = World(size=4)
    odd, *others = world.instances
    refuse(odd)
    assert world.open() == [1, 2, 3, 4], "nobody knows yet that the others serve"
    serve(others, 3)
    refuse(odd)
    assert world.open() == [2, 3, 4]
    (line,) = world.lines("Circuit of http://10.0.0.1:8000 opened")
    assert "it answered status 401 to all 4 requests within 10 s, and the others serve; no requests for" in line
    world.wait(1.1)
    assert odd.breaker is not None
    odd.breaker.refused(401, "d")
    assert world.open() == [2, 3, 4], "its trial was refused too"


def test_not_where_the_others_refuse_as_well() -> None:
    world = World(size=4)
    odd, *others = world.instances
    serve(others, 3)
    refuse(others[0], 404)
    refuse(odd, 404)
    assert world.open() == [1, 2, 3, 4]


def test_nor_where_too_few_would_be_left() -> None:
    world = World(size=1)
    other = world.add(9)
    world.registry.probe_failed(other, "status 503")
    serve([other], 9)
    refuse(world.instances[0])
    assert world.open() == [1]
    assert world.counted.panics


def test_an_instance_that_fails_gets_nothing_then_one_request_then_all() -> None:
    world = World()
    bad = world.instances[0]
    world.fail(bad)
    assert world.open() == [2, 3, 4]
    world.wait(0.7)
    assert world.open() == [2, 3, 4]
    world.wait(0.4)
    assert world.open() == [1, 2, 3, 4]
    bad.acquire(0)
    assert world.open() == [2, 3, 4], "one is on trial"
    assert bad.breaker is not None
    bad.breaker.answered(200)
    assert world.open() == [1, 2, 3, 4]
    assert (bad.limit, bad.is_ejected) == (0, False)
    assert world.counted.openings == [bad.url]
    (opened, half_open, closed) = world.lines("Circuit of http://10.0.0.1:8000 ")
    assert opened.startswith(
        "Circuit of http://10.0.0.1:8000 opened: 2 failures in a row, the last one: reset; no requ"
    )
    assert half_open.endswith(": one request on trial")
    assert closed.endswith(" closed: status 200")


def test_a_trial_of_no_verdict_makes_way_for_another() -> None:
    world = World()
    bad = world.instances[0]
    world.fail(bad)
    world.wait(1.0)
    bad.acquire(0)
    bad.release()  # its client left, or it was a bad request
    assert world.open() == [1, 2, 3, 4]


def test_the_time_doubles_up_to_a_maximum_and_begins_anew_after_a_calm_time() -> None:
    world = World(open_secs=1.0, max_open_secs=8.0)
    bad = world.instances[0]
    world.fail(bad)
    delays = []
    for _ in range(6):
        waited = 0.0
        while world.circuit(bad) is Circuit.OPEN:
            world.wait(0.05)
            waited += 0.05
        delays.append(waited)
        world.fail(bad, 1)
    for delay, longest in zip(delays, [1, 2, 4, 8, 8, 8], strict=True):
        assert longest * 0.8 <= delay <= longest + 0.1
    world.wait(9)
    assert bad.breaker is not None
    bad.breaker.answered(200)
    world.wait(20)
    world.fail(bad)
    world.wait(1.05)
    assert world.circuit(bad) is Circuit.HALF_OPEN


def test_what_still_ran_there_leaves_headroom_for_a_trial() -> None:
    world = World()
    bad = world.instances[0]
    for _ in range(5):
        bad.acquire(0)
    world.fail(bad)
    world.wait(1)
    assert 1 in world.open()
    bad.acquire(0)
    assert 1 not in world.open()


def test_a_cap_holds_beside_a_trial() -> None:
    world = World(cap=3)
    bad = world.instances[0]
    for _ in range(3):
        bad.acquire(0)
    world.fail(bad)
    world.wait(1)
    assert 1 not in world.open()
    bad.release()
    assert 1 in world.open()


def test_never_fewer_than_the_share_is_left() -> None:
    world = World(4)
    for instance in world.instances:
        world.fail(instance, 9)
    assert world.open() == [3, 4]
    assert world.counted.panics
    assert set(world.counted.panics) == {"mixed"}
    (line,) = world.lines("Panic")
    assert line == (
        "Panic: circuit of http://10.0.0.3:8000 stays closed in spite of 2 failures in a row, the last one: reset: "
        "50% of the mixed instances must be left"
    )
    world.clock.now += PANIC_LINE_SECONDS
    world.fail(world.instances[3])
    assert len(world.lines("Panic")) == 2, "told again, but not for each"


@pytest.mark.parametrize(("size", "share", "left"), [(1, 0.5, 1), (2, 0.5, 1), (3, 0.5, 2), (4, 0.0, 0), (4, 1.0, 4)])
def test_shares(size: int, share: float, left: int) -> None:
    world = World(size, min_share=share)
    for instance in world.instances:
        world.fail(instance, 2)
    assert len(world.open()) == left


def test_one_on_trial_is_not_one_that_is_left() -> None:
    world = World(2)
    one, two = world.instances
    world.fail(one)
    world.wait(1)
    world.fail(two)
    assert world.circuit(one) is Circuit.HALF_OPEN
    assert world.circuit(two) is Circuit.CLOSED


def test_when_others_go_down_the_first_to_have_opened_are_let_in_again() -> None:
    world = World(4)
    one, two, three, _ = world.instances
    world.fail(two)
    world.clock.now += 0.1
    world.fail(one)
    assert world.open() == [3, 4]
    world.registry.probe_failed(three, "no answer")
    assert world.open() == [2, 4]
    assert world.lines("Circuit of http://10.0.0.2:8000 closed: too few instances are left")


def test_instances_that_were_never_up_are_not_missed() -> None:
    """A register.yaml may list more than is running yet."""
    world = World(2)
    for number in range(5, 15):
        world.registry.register(
            parse_registration({"role": "mixed", "host_ip": f"10.0.0.{number}", "port": 1}), REGISTER_YAML
        )
    world.fail(world.instances[0])
    assert world.open() == [2]


def test_going_down_and_up_again_is_a_new_life() -> None:
    world = World()
    bad = world.instances[0]
    world.fail(bad)
    world.registry.probe_failed(bad, "refused")
    world.registry.probe_succeeded(bad)
    assert world.open() == [1, 2, 3, 4]
    world.fail(bad, 1)
    assert world.circuit(bad) is Circuit.CLOSED


def test_what_was_on_its_way_to_one_that_died_says_nothing_more() -> None:
    """A killed instance fails all its requests at one moment; the probe decides, not their number."""
    world = World()
    bad = world.instances[0]
    for _ in range(50):
        bad.failed("reset")
        world.registry.connection_failed(bad, "reset")
    assert world.circuit(bad) is Circuit.CLOSED
    assert world.counted.openings == []


def test_one_that_resets_every_request_but_answers_its_probes() -> None:
    world = World()
    bad = world.instances[0]
    for _ in range(2):
        for _ in range(20):
            bad.failed("reset")
            world.registry.connection_failed(bad, "reset")
        world.registry.probe_succeeded(bad)
    assert world.open() == [2, 3, 4]


def test_a_removed_one_is_forgotten() -> None:
    world = World()
    bad = world.instances[0]
    world.fail(bad)
    world.registry.remove(bad.key)
    assert (bad.breaker, bad.is_ejected) == (None, False)
    bad.failed("reset")
    world.instances[0] = world.add(1)
    assert world.open() == [1, 2, 3, 4]
    world.wait(5)
    assert repr(world.breakers) == "<Breakers 4, not closed: 0>"


def test_roles_have_a_share_each() -> None:
    world = World(2)
    prefill = [world.add(number, "prefill") for number in (11, 12)]
    world.fail(world.instances[0])
    world.fail(prefill[0])
    assert [x.key for x in world.registry.group("prefill").available] == [prefill[1].key]
    assert world.open() == [2]


STEPS = ("fail", "answer", "take", "end", "down", "up", "wait", "remove", "add", "pause")


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 4)), max_size=120), st.sampled_from((0.0, 0.5, 0.8)))
def test_whatever_happens_enough_are_left_and_nothing_is_forgotten(steps: list[tuple[str, int]], share: float) -> None:
    world = World(5, min_share=share)
    actions: dict[str, Callable[[Instance], object]] = {
        "fail": lambda x: world.fail(x, 1),
        "answer": lambda x: x.breaker and x.breaker.answered(200),
        "take": lambda x: x.acquire(0),
        "end": lambda x: x.running and x.release(),
        "down": lambda x: world.registry.probe_failed(x, "no answer"),
        "up": world.registry.probe_succeeded,
        "wait": lambda _: world.wait(0.5),
        "remove": lambda x: world.registry.remove(x.key),
        "add": lambda x: world.registry.register(x.registration),
        "pause": lambda x: world.registry.set_draining(x.key, not x.is_draining),
    }
    for step, number in steps:
        actions[step](world.instances[number])
        members = world.registry.all()
        circuits = {instance.key: circuit for instance, circuit in world.breakers.circuits()}
        assert set(circuits) == {x.key for x in members}
        for instance in members:
            assert instance.is_ejected is (circuits[instance.key] is Circuit.OPEN)
            assert (instance.limit > 0) is (circuits[instance.key] is Circuit.HALF_OPEN)
        proven = world.registry.proven("mixed")
        left = [x for x in world.registry.group("mixed").available if circuits[x.key] is Circuit.CLOSED]
        could = [
            x for x in proven if x in left or (circuits[x.key] is not Circuit.CLOSED and x.health.value == "healthy")
        ]
        assert len(left) >= min(len(could), share * len(proven))
