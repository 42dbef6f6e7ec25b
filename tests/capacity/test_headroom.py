"""Instances at their limit leave the candidates of their group, and come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.capacity.headroom import Headroom
from fd_router.instances.group_key import ANY_MODEL, GroupKey
from fd_router.instances.groups import Group
from fd_router.instances.instance import Health, Instance
from fd_router.instances.registration import parse_registration


class Fleet:
    """Instances of two groups, as those of several models are: all may be chosen, unless ``leave`` says otherwise."""

    def __init__(self, size: int) -> None:
        self.groups = [Group(GroupKey(ANY_MODEL, "mixed")), Group(GroupKey("another", "mixed"))]
        self.group = self.groups[0]
        instances = (self._make(number) for number in range(1, size + 1))
        self.instances = tuple(sorted(instances, key=lambda each: each.url))
        self.headroom = Headroom()
        self.notified = 0
        self.headroom.on_capacity(self._on_capacity)

    def _make(self, number: int) -> Instance:
        instance = Instance(parse_registration({"role": "mixed", "host_ip": f"10.0.0.{number}", "port": 8000}))
        instance.health = Health.HEALTHY
        instance.groups = tuple(self.groups)
        for group in self.groups:
            group.join(instance)
        return instance

    def _on_capacity(self) -> None:
        self.notified += 1

    def limit(self, limit: int) -> None:
        for instance in self.instances:
            self.headroom.set_limit(instance, limit)

    def drain(self, *instances: Instance) -> None:
        """Let exactly these drain."""
        for instance in self.instances:
            instance.is_draining = instance in instances
        for group in self.groups:
            group.refresh()


def test_a_large_fleet_has_one_object_that_hears_of_limits() -> None:
    fleet = Fleet(2)
    fleet.limit(2)
    first, second = fleet.instances
    assert first.on_limit is second.on_limit


def test_without_limits_all_that_are_available_are_candidates() -> None:
    fleet = Fleet(3)
    for instance in fleet.instances:
        instance.acquire(1)
    assert fleet.group.candidates() is fleet.group.available
    assert fleet.group.available == fleet.instances
    assert not fleet.group.is_saturated


def test_one_at_its_limit_is_left_out_until_a_request_ends() -> None:
    fleet = Fleet(3)
    fleet.limit(2)
    one, two, three = fleet.instances
    two.acquire(0)
    assert fleet.group.candidates() is fleet.group.available
    two.acquire(0)
    for group in fleet.groups:
        assert group.candidates() == (one, three)
        assert group.available == (one, two, three)
    assert two.is_saturated
    two.release()
    for group in fleet.groups:
        assert group.candidates() is group.available
    assert not two.is_saturated


def test_the_same_object_as_long_as_nothing_changes() -> None:
    """Policies keep what they worked out for it."""
    fleet = Fleet(3)
    fleet.limit(1)
    fleet.instances[0].acquire(0)
    first = fleet.group.candidates()
    assert fleet.group.candidates() is first
    fleet.instances[1].acquire(0)
    assert fleet.group.candidates() == fleet.instances[2:]


def test_what_is_excluded_is_left_out_of_those_with_headroom() -> None:
    fleet = Fleet(4)
    fleet.limit(1)
    one, two, three, four = fleet.instances
    two.acquire(0)
    assert fleet.group.candidates({one.key, "10.9.9.9:1"}) == (three, four)
    assert fleet.group.candidates([one.key, three.key, four.key]) == ()
    assert fleet.group.candidates() == (one, three, four)


def test_saturated_is_not_empty() -> None:
    fleet = Fleet(2)
    fleet.limit(1)
    for instance in fleet.instances:
        instance.acquire(0)
    assert (fleet.group.candidates(), fleet.group.is_saturated) == ((), True)
    fleet.drain(*fleet.instances)
    assert not fleet.group.is_saturated, "there is no instance, with or without headroom"


def test_who_waits_hears_of_headroom() -> None:
    fleet = Fleet(2)
    fleet.limit(1)
    one, two = fleet.instances
    one.acquire(0)
    two.acquire(0)
    assert fleet.notified == 0
    one.release()
    assert fleet.notified == 1
    fleet.headroom.set_limit(two, 2)
    assert fleet.notified == 2


def test_a_lower_limit_takes_nothing_away() -> None:
    fleet = Fleet(2)
    one, two = fleet.instances
    for _ in range(5):
        one.acquire(0)
    fleet.limit(3)
    assert fleet.group.candidates() == (two,)
    one.release()
    one.release()
    assert fleet.group.candidates() == (two,)
    one.release()
    assert fleet.group.candidates() == (one, two)


def test_no_limit_any_more() -> None:
    fleet = Fleet(1)
    fleet.limit(1)
    fleet.instances[0].acquire(0)
    fleet.limit(0)
    assert fleet.group.candidates() is fleet.group.available
    for _ in range(3):
        fleet.instances[0].acquire(0)
    assert fleet.group.candidates() == fleet.instances


def test_a_repaired_count_gives_headroom() -> None:
    fleet = Fleet(1)
    fleet.limit(3)
    for _ in range(4):
        fleet.instances[0].acquire(0)
    assert fleet.group.candidates() == ()
    fleet.instances[0].repair(1)
    assert (fleet.group.candidates(), fleet.notified) == ((), 0)
    fleet.instances[0].repair(2)
    assert (fleet.group.candidates(), fleet.notified) == (fleet.instances, 1)


def test_another_fleet_is_seen_at_once() -> None:
    fleet = Fleet(3)
    fleet.limit(1)
    one, two, three = fleet.instances
    one.acquire(0)
    assert fleet.group.candidates() == (two, three)
    fleet.drain(three)
    assert fleet.group.candidates() == (two,)
    three.acquire(0)
    three.release()  # of a request that began before it drained
    one.release()
    two.acquire(0)
    assert fleet.group.candidates() == (one,)


def test_what_it_shows() -> None:
    fleet = Fleet(2)
    fleet.limit(1)
    fleet.instances[0].acquire(0)
    assert repr(fleet.headroom) == "<Headroom, 1 listeners>"
    assert [repr(group) for group in fleet.groups] == [
        "<Group mixed: 1 of 2 may be chosen>",
        "<Group mixed another: 1 of 2 may be chosen>",
    ]


@pytest.mark.parametrize("size", [1, 5])
@given(st.data())
def test_candidates_are_always_exactly_those_with_headroom(size: int, data: st.DataObject) -> None:
    fleet = Fleet(size)
    instances = fleet.instances
    numbers = st.integers(0, size - 1)
    for _ in range(data.draw(st.integers(0, 40))):
        step = data.draw(st.sampled_from(("acquire", "release", "repair", "limit", "drain", "ask")))
        instance = instances[data.draw(numbers)]
        if step == "acquire":
            instance.acquire(0)
        elif step == "release" and instance.running:
            instance.release()
        elif step == "repair":
            instance.repair(data.draw(st.integers(0, 3)))
        elif step == "limit":
            fleet.headroom.set_limit(instance, data.draw(st.integers(0, 3)))
        elif step == "drain":
            fleet.drain(*(x for x in instances if data.draw(st.booleans())))
        else:
            fleet.groups[0].candidates()  # the other one is asked seldom
            continue
        right = tuple(x for x in instances if not x.is_draining and not 0 < x.limit <= x.running)
        assert tuple(fleet.groups[0].candidates()) == right
        assert fleet.groups[0].is_saturated is (not right and any(not x.is_draining for x in instances))
    assert tuple(fleet.groups[1].candidates()) == tuple(fleet.groups[0].candidates())
