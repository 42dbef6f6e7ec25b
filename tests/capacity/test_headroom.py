"""Instances at their limit leave the list that policies choose from, and come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.capacity.headroom import Headroom
from fd_router.instances.instance import Instance
from fd_router.instances.registration import parse_registration


def make(number: int, role: str = "mixed") -> Instance:
    return Instance(parse_registration({"role": role, "host_ip": f"10.0.0.{number}", "port": 8000}))


class Fleet:
    """Instances of one role behind a room, all of them available."""

    def __init__(self, size: int) -> None:
        self.instances = tuple(sorted((make(number) for number in range(1, size + 1)), key=lambda each: each.url))
        self.room = Headroom(lambda role: self.instances if role == "mixed" else ())
        self.told = 0
        self.room.on_capacity(self._on_room)

    def _on_room(self) -> None:
        self.told += 1

    def limit(self, limit: int) -> None:
        for instance in self.instances:
            self.room.set_limit(instance, limit)


def test_without_limits_it_hands_out_what_is_available() -> None:
    fleet = Fleet(3)
    for instance in fleet.instances:
        instance.acquire(1)
    assert fleet.room.open("mixed") is fleet.instances
    assert not fleet.room.is_full("mixed")


def test_one_at_its_limit_is_left_out_until_a_request_ends() -> None:
    fleet = Fleet(3)
    fleet.limit(2)
    one, two, three = fleet.instances
    two.acquire(0)
    assert fleet.room.open("mixed") is fleet.instances
    two.acquire(0)
    assert fleet.room.open("mixed") == (one, three)
    assert fleet.room.full == {two.key}
    two.release()
    assert fleet.room.open("mixed") == (one, two, three)
    assert fleet.room.full == set()


def test_the_same_object_as_long_as_nothing_changes() -> None:
    """Policies keep what they worked out for it."""
    fleet = Fleet(3)
    fleet.limit(1)
    fleet.instances[0].acquire(0)
    first = fleet.room.open("mixed")
    assert fleet.room.open("mixed") is first
    fleet.instances[1].acquire(0)
    assert fleet.room.open("mixed") == fleet.instances[2:]


def test_full_is_not_empty() -> None:
    fleet = Fleet(2)
    fleet.limit(1)
    for instance in fleet.instances:
        instance.acquire(0)
    assert (fleet.room.open("mixed"), fleet.room.is_full("mixed")) == ((), True)
    assert (fleet.room.open("decode"), fleet.room.is_full("decode")) == ((), False)
    fleet.instances = ()
    assert not fleet.room.is_full("mixed"), "there is no instance, with or without room"


def test_who_waits_is_told_of_room() -> None:
    fleet = Fleet(2)
    fleet.limit(1)
    one, two = fleet.instances
    one.acquire(0)
    two.acquire(0)
    assert fleet.told == 0
    one.release()
    assert fleet.told == 1
    fleet.room.set_limit(two, 2)
    assert fleet.told == 2


def test_a_lower_limit_takes_nothing_away() -> None:
    fleet = Fleet(2)
    one, two = fleet.instances
    for _ in range(5):
        one.acquire(0)
    fleet.limit(3)
    assert fleet.room.open("mixed") == (two,)
    one.release()
    one.release()
    assert fleet.room.open("mixed") == (two,)
    one.release()
    assert fleet.room.open("mixed") == (one, two)


def test_no_limit_any_more() -> None:
    fleet = Fleet(1)
    fleet.limit(1)
    fleet.instances[0].acquire(0)
    fleet.limit(0)
    assert fleet.room.open("mixed") is fleet.instances
    for _ in range(3):
        fleet.instances[0].acquire(0)
    assert fleet.room.full == set()


def test_another_fleet_is_seen_at_once() -> None:
    fleet = Fleet(3)
    fleet.limit(1)
    one, two, three = fleet.instances
    one.acquire(0)
    assert fleet.room.open("mixed") == (two, three)
    fleet.instances = (one, two)
    assert fleet.room.open("mixed") == (two,)
    three.acquire(0)
    three.release()  # of a request that began before it left
    one.release()
    two.acquire(0)
    assert fleet.room.open("mixed") == (one,)


def test_what_it_shows() -> None:
    fleet = Fleet(1)
    assert repr(fleet.room) == "<Headroom 0 full>"


@pytest.mark.parametrize("size", [1, 5])
@given(st.data())
def test_it_always_holds_exactly_those_with_room(size: int, data: st.DataObject) -> None:
    fleet = Fleet(size)
    instances = fleet.instances
    numbers = st.integers(0, size - 1)
    for _ in range(data.draw(st.integers(0, 40))):
        step = data.draw(st.sampled_from(("take", "give back", "limit", "fleet", "look")))
        instance = instances[data.draw(numbers)]
        if step == "take":
            instance.acquire(0)
        elif step == "give back" and instance.running:
            instance.release()
        elif step == "limit":
            fleet.room.set_limit(instance, data.draw(st.integers(0, 3)))
        elif step == "fleet":
            fleet.instances = tuple(x for x in instances if data.draw(st.booleans()))
        else:
            fleet.room.open("mixed")
        assert fleet.room.full == {x.key for x in instances if 0 < x.limit <= x.running}
        assert tuple(fleet.room.open("mixed")) == tuple(x for x in fleet.instances if not 0 < x.limit <= x.running)
