"""Cooling: who says that it has no room is asked again after a while, as long as others are left."""

from __future__ import annotations

from fd_router.capacity.cooling import FIRST_SECS, MAX_SECS, Cooling
from fd_router.instances.instance import Instance
from fd_router.instances.registration import Registration, parse_registration
from fd_router.instances.registry import Registry


def describe(number: int) -> Registration:
    return parse_registration({"role": "mixed", "host_ip": f"10.0.0.{number}", "port": 8000})


class Fleet:
    def __init__(self, registry: Registry, count: int) -> None:
        self.now = 100.0
        self.told = 0
        self.cooling = Cooling(registry, self._on_capacity, min_share=0.5, clock=lambda: self.now)
        self.members: list[Instance] = [registry.register(describe(number)) for number in range(1, count + 1)]
        self.registry = registry

    def _on_capacity(self) -> None:
        self.told += 1

    def busy(self, number: int, seconds: float = 0.0) -> None:
        instance = self.members[number]
        instance.on_busy(instance, seconds)

    def candidates(self) -> list[int]:
        (group,) = self.members[0].groups
        return [self.members.index(instance) for instance in group.available]  # type: ignore[arg-type]

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.cooling.tick()


def test_a_large_fleet_has_one_object_that_cools(registry: Registry) -> None:
    first, second = Fleet(registry, 2).members
    assert first.on_busy is second.on_busy


def test_for_as_long_as_it_asks(registry: Registry) -> None:
    fleet = Fleet(registry, 3)
    fleet.busy(0, 5.0)
    assert fleet.candidates() == [1, 2]
    fleet.pass_time(4.9)
    assert fleet.candidates() == [1, 2]
    fleet.pass_time(0.2)
    assert fleet.candidates() == [0, 1, 2]
    assert fleet.told == 1, "who waits may have room now"


def test_else_for_a_growing_moment(registry: Registry) -> None:
    fleet = Fleet(registry, 2)
    for seconds in (FIRST_SECS, 2 * FIRST_SECS, 4 * FIRST_SECS):
        fleet.busy(0)
        fleet.pass_time(seconds * 0.9)
        assert fleet.candidates() == [1]
        fleet.pass_time(seconds * 0.2)
        assert fleet.candidates() == [0, 1]
    fleet.pass_time(10.0)
    fleet.busy(0)
    fleet.pass_time(FIRST_SECS * 1.1)
    assert fleet.candidates() == [0, 1], "it begins anew"


def test_never_for_longer_than_a_bound(registry: Registry) -> None:
    fleet = Fleet(registry, 2)
    fleet.busy(0, 1e9)
    fleet.pass_time(MAX_SECS)
    assert fleet.candidates() == [0, 1]


def test_enough_are_left(registry: Registry) -> None:
    fleet = Fleet(registry, 3)
    fleet.busy(0, 5.0)
    fleet.busy(1, 5.0)
    assert fleet.candidates() == [1, 2]


def test_the_only_one_is_asked_all_the_same(registry: Registry) -> None:
    fleet = Fleet(registry, 1)
    fleet.busy(0, 5.0)
    assert fleet.candidates() == [0]


def test_when_the_others_go_it_is_asked_again(registry: Registry) -> None:
    fleet = Fleet(registry, 2)
    fleet.busy(0, 5.0)
    registry.connection_failed(fleet.members[1], "refused")
    assert fleet.candidates() == [0]


def test_one_that_is_removed_is_forgotten(registry: Registry) -> None:
    fleet = Fleet(registry, 2)
    fleet.busy(0, 5.0)
    registry.remove(fleet.members[0].key)
    again = registry.register(describe(1))
    assert again.takes_new
    fleet.pass_time(10.0)
    assert fleet.told == 0
