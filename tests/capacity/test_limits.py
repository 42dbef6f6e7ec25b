from __future__ import annotations

from typing import Any

import pytest

from fd_router.capacity.headroom import Headroom
from fd_router.capacity.limits import Limits
from fd_router.instances.instance import Instance
from fd_router.instances.registration import Registration, RegistrationError, decode_registration, parse_registration
from fd_router.instances.registry import Registry


def limited(registry: Registry, max_requests: int) -> Headroom:
    room = Headroom(registry.available)
    Limits(registry, room, max_requests)
    return room


def fill(instance: Instance, requests: int) -> None:
    for _ in range(requests):
        instance.acquire(0)


def test_the_option_holds_for_all_but_those_that_say_otherwise(registry: Registry, describe: Any) -> None:
    room = limited(registry, 2)
    one = registry.register(describe(8001))
    two = registry.register(describe(8002, max_requests=3))
    fill(one, 2)
    fill(two, 2)
    assert room.open("mixed") == (two,)
    two.acquire(0)
    assert room.is_full("mixed")


def test_registering_again_with_another_number(registry: Registry, describe: Any) -> None:
    room = limited(registry, 0)
    one = registry.register(describe(8001, max_requests=1))
    fill(one, 1)
    assert room.is_full("mixed")
    registry.register(describe(8001, max_requests=2))
    assert room.open("mixed") == (one,)
    registry.register(describe(8001))
    fill(one, 9)
    assert room.open("mixed") == (one,)


def test_one_that_left_full_is_forgotten_and_counted_when_it_is_back(registry: Registry, describe: Any) -> None:
    room = limited(registry, 1)
    one = registry.register(describe(8001))
    fill(one, 1)
    registry.remove(one.key)
    assert room.full == set()
    assert registry.register(describe(8001)) is one
    assert room.is_full("mixed"), "its request still runs"
    one.release()
    assert room.open("mixed") == (one,)


def test_a_new_instance_is_room(registry: Registry, describe: Any) -> None:
    room = limited(registry, 1)
    fill(registry.register(describe(8001)), 1)
    told = []
    room.on_capacity(lambda: told.append(room.open("mixed")))
    two = registry.register(describe(8002))
    assert told[-1] == (two,)
    registry.remove(two.key)
    fill(two, 1)
    assert room.open("mixed") == ()


class TestRegistration:
    def read(self, value: object) -> Registration:
        return parse_registration({"role": "mixed", "host_ip": "10.0.0.1", "port": 1, "max_requests": value})

    @pytest.mark.parametrize(("value", "meaning"), [(None, 0), ("", 0), (0, 0), (7, 7), ("64", 64), (1_000_000, 10**6)])
    def test_numbers(self, value: object, meaning: int) -> None:
        registration = self.read(value)
        assert registration.max_requests == meaning
        assert parse_registration(registration.as_json()) == registration

    @pytest.mark.parametrize("value", [-1, 1_000_001, "-1", "many", True, 1.5, [], "99999999"])
    def test_nonsense(self, value: object) -> None:
        with pytest.raises(RegistrationError, match="max_requests"):
            self.read(value)

    def test_the_schema_of_today_stays_as_it_is(self) -> None:
        body = b'{"role": "mixed", "host_ip": "10.0.0.1", "port": 1}'
        assert "max_requests" not in decode_registration(body).as_json()
