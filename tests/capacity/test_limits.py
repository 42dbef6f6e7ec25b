from __future__ import annotations

from typing import Any

import pytest

from fd_router.capacity.headroom import Headroom
from fd_router.capacity.limits import Limits
from fd_router.instances.groups import Group
from fd_router.instances.instance import Instance
from fd_router.instances.registration import Registration, decode_registration, parse_registration
from fd_router.instances.registration_errors import RegistrationError
from fd_router.instances.registry import Registry


def limited(registry: Registry, max_requests: int) -> Group:
    Limits(registry, Headroom(), max_requests)
    return registry.group("mixed")


def fill(instance: Instance, requests: int) -> None:
    for _ in range(requests):
        instance.acquire(0)


def test_the_option_holds_for_all_but_those_that_say_otherwise(registry: Registry, describe: Any) -> None:
    group = limited(registry, 2)
    one = registry.register(describe(8001))
    two = registry.register(describe(8002, max_requests=3))
    fill(one, 2)
    fill(two, 2)
    assert group.candidates() == (two,)
    two.acquire(0)
    assert group.is_saturated


def test_registering_again_with_another_number(registry: Registry, describe: Any) -> None:
    group = limited(registry, 0)
    one = registry.register(describe(8001, max_requests=1))
    fill(one, 1)
    assert group.is_saturated
    registry.register(describe(8001, max_requests=2))
    assert group.candidates() == (one,)
    registry.register(describe(8001))
    fill(one, 9)
    assert group.candidates() == (one,)


def test_one_that_left_saturated_is_forgotten_and_counted_when_it_is_back(registry: Registry, describe: Any) -> None:
    group = limited(registry, 1)
    one = registry.register(describe(8001))
    fill(one, 1)
    registry.remove(one.key)
    assert not one.is_saturated
    assert registry.register(describe(8001)) is one
    assert group.is_saturated, "its request still runs"
    one.release()
    assert group.candidates() == (one,)


def test_a_new_instance_is_headroom(registry: Registry, describe: Any) -> None:
    headroom, group = Headroom(), registry.group("mixed")
    Limits(registry, headroom, 1)
    fill(registry.register(describe(8001)), 1)
    told = []
    headroom.on_capacity(lambda: told.append(group.candidates()))
    two = registry.register(describe(8002))
    assert told[-1] == (two,)
    registry.remove(two.key)
    fill(two, 1)
    assert group.candidates() == ()


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
