"""Which members are matched as pairs, and that it is found out anew when what they register changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest

from fd_router.engines.dialect import Dialect, PairMember
from fd_router.engines.dialects import Dialects
from fd_router.errors import NoInstanceError
from fd_router.instances.instance import Instance
from fd_router.instances.registration import Registration
from fd_router.instances.registry import Registry
from fd_router.scheduling.pairs import PairScheduler, Side
from fd_router.scheduling.policies.round_robin import RoundRobinPolicy
from tests.support.fake_log import FakeLog
from tests.support.live import live_config
from tests.support.scheduling_fakes import FakeRequest, make_environment

Describe = Callable[..., Registration]


class ByZone(Dialect):
    """Pairs by a key of the registration that the router doesn't know."""

    name: ClassVar[str] = "by-zone"
    makes_pairs: ClassVar[bool] = True

    def can_pair(self, prefill: PairMember, decode: PairMember) -> bool:
        return bool(prefill.extra.get("zone") == decode.extra.get("zone"))


class WithByZone(Dialects):
    def named(self, name: str) -> Dialect:
        return self._by_zone if name == "by-zone" else super().named(name)

    def __init__(self) -> None:
        super().__init__()
        self._by_zone = ByZone()


class Fleet:
    """A prefill and a decode instance in a registry, and the scheduler over them."""

    def __init__(self, describe: Describe) -> None:
        self.registry = Registry(clock=lambda: 0.0, log=FakeLog(), live=live_config(), dialects=WithByZone())
        self._describe = describe
        environment = make_environment()
        self._scheduler = PairScheduler[Instance](
            Side(self.registry.group("prefill"), RoundRobinPolicy(environment)),
            Side(self.registry.group("decode"), RoundRobinPolicy(environment)),
            Instance.can_pair_with,
        )

    def register(self, role: str, **more: Any) -> None:
        port = {"prefill": 1, "decode": 2}[role]
        self.registry.register(self._describe(port, role=role, **more))

    def pairs(self) -> bool:
        try:
            for decision in self._scheduler.select(FakeRequest("abc")):
                decision.release()
        except NoInstanceError:
            return False
        return True


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"version": "1"}, {"version": "2"}),
        ({"tp_size": 2}, {"tp_size": 4}),
        ({"dialect": "by-zone", "zone": "a"}, {"dialect": "by-zone", "zone": "b"}),
        ({"dialect": "fastdeploy"}, {"dialect": "by-zone"}),
    ],
)
@pytest.mark.parametrize("changing", ["prefill", "decode"])
def test_pairs_are_matched_anew_when_one_registers_otherwise(
    describe: Describe, changing: str, first: Mapping[str, Any], then: Mapping[str, Any]
) -> None:
    fleet = Fleet(describe)
    other = "decode" if changing == "prefill" else "prefill"
    fleet.register(other, **first)
    fleet.register(changing, **first)
    assert fleet.pairs()
    fleet.register(changing, **then)
    assert not fleet.pairs()
    fleet.register(other, **then)
    assert fleet.pairs()


def test_a_heartbeat_with_nothing_new_changes_nothing(describe: Describe) -> None:
    fleet = Fleet(describe)
    fleet.register("prefill", zone="a")
    before = fleet.registry.group("prefill").available
    fleet.register("prefill", zone="a")
    assert fleet.registry.group("prefill").available is before


def test_two_dialects_do_not_pair(describe: Describe) -> None:
    fleet = Fleet(describe)
    fleet.register("prefill", dialect="by-zone")
    fleet.register("decode")
    assert not fleet.pairs()
