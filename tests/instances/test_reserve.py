"""The reserve: who serves where too few instances are healthy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.instances.changes import ChangeKind
from fd_router.instances.doubt import Doubt, doubt_of
from fd_router.instances.instance import Instance, Readiness
from fd_router.instances.registration import parse_registration
from fd_router.instances.registry import Registry
from fd_router.instances.reserve_log import ReserveLog
from fd_router.instances.source import REGISTER_YAML
from fd_router.scheduling.candidate_group import JointGroup
from tests.support.fake_log import FakeLog
from tests.support.live import live_config


@pytest.fixture
def fleet(registry: Registry, describe: Any) -> list[Instance]:
    return [registry.register(describe(port)) for port in (1, 2, 3, 4)]


def serving(registry: Registry, *excluded: Instance) -> list[int]:
    return [instance.port for instance in registry.group("mixed").candidates([each.key for each in excluded])]


def test_healthy_ones_serve_alone_as_long_as_they_are_enough(registry: Registry, fleet: list[Instance]) -> None:
    registry.probe_failed(fleet[0], "late", Doubt.LATE)
    registry.probe_failed(fleet[1], "late", Doubt.LATE)
    assert serving(registry) == [3, 4]
    assert not registry.group("mixed").is_reserve


def test_late_ones_make_up_the_share_that_must_serve(registry: Registry, fleet: list[Instance]) -> None:
    for instance in fleet[:3]:
        registry.probe_failed(instance, "late", Doubt.LATE)
    fleet[1].answered_at = 50.0
    registry.group("mixed").refresh()
    assert serving(registry) == [2, 4], "the one that answered last"
    assert not registry.group("mixed").is_reserve
    registry.probe_failed(fleet[3], "late", Doubt.LATE)
    assert serving(registry) == [1, 2]
    assert registry.group("mixed").is_reserve


def test_a_suspect_serves_only_where_nobody_is_left(registry: Registry, fleet: list[Instance]) -> None:
    for instance in fleet[:3]:
        registry.connection_failed(instance, "reset")
    assert serving(registry) == [4]
    registry.connection_failed(fleet[3], "reset")
    assert serving(registry) == [1, 2]


@pytest.mark.parametrize("reason", ["refused", "unreachable"])
def test_never_one_that_refuses(registry: Registry, fleet: list[Instance], reason: str) -> None:
    for instance in fleet:
        registry.connection_failed(instance, reason)
    assert serving(registry) == []
    assert not registry.group("mixed").is_reserve


def test_nor_one_that_says_itself_that_it_is_not_well(registry: Registry, fleet: list[Instance]) -> None:
    for instance in fleet:
        registry.probe_failed(instance, "status 503")
    assert serving(registry) == []


def test_the_better_ones_first(registry: Registry, fleet: list[Instance]) -> None:
    registry.connection_failed(fleet[0], "connect_timeout")
    registry.probe_failed(fleet[1], "late", Doubt.LATE)
    registry.connection_failed(fleet[2], "reset")
    registry.probe_failed(fleet[3], "status 500")
    assert serving(registry) == [2, 3]
    registry.remove(fleet[2].key)
    assert serving(registry) == [1, 2]
    registry.connection_failed(fleet[1], "refused")
    assert serving(registry) == [1]
    registry.probe_succeeded(fleet[3])
    assert serving(registry) == [4]


def test_who_drains_or_is_ejected_is_no_reserve(registry: Registry, fleet: list[Instance]) -> None:
    for instance in fleet:
        registry.connection_failed(instance, "reset")
    registry.set_draining(fleet[0].key, draining=True)
    registry.set_ejected(fleet[1], True, ChangeKind.CIRCUIT_OPEN, "why")
    assert serving(registry) == [3, 4]


def test_one_that_was_never_healthy_is_the_last_choice(registry: Registry, describe: Any) -> None:
    new = registry.register(describe(1), REGISTER_YAML, index=0)
    assert serving(registry) == [], "nobody knows it yet"
    registry.probe_failed(new, "late", Doubt.LATE)
    assert serving(registry) == [1]
    known = registry.register(describe(2))
    registry.connection_failed(known, "connect_timeout")
    assert serving(registry) == [2]


def test_none_is_tried_twice_by_one_request(registry: Registry, fleet: list[Instance]) -> None:
    for instance in fleet[1:]:
        registry.connection_failed(instance, "refused")
    registry.connection_failed(fleet[0], "reset")
    assert serving(registry) == [1]
    assert serving(registry, fleet[0]) == []
    assert registry.group("mixed").is_reserve


def test_a_joint_group_is_a_reserve_where_nobody_better_is_in_it(registry: Registry, describe: Any) -> None:
    prefill, decode = (registry.register(describe(port, role)) for port, role in ((1, "prefill"), (2, "decode")))
    joint: JointGroup[Instance] = JointGroup([registry.group("prefill"), registry.group("decode")])
    registry.connection_failed(prefill, "reset")
    assert (list(joint.candidates()), joint.is_reserve) == ([prefill, decode], False)
    registry.connection_failed(decode, "reset")
    assert joint.available
    assert joint.is_reserve


def test_what_was_found_is_forgotten_when_it_is_healthy(registry: Registry, fleet: list[Instance]) -> None:
    one = fleet[0]
    registry.connection_failed(one, "refused")
    registry.probe_failed(one, "late", Doubt.LATE)
    assert one.doubt is Doubt.LATE
    registry.connection_failed(one, "reset")
    assert one.doubt is Doubt.LATE, "the graver word counts"
    registry.probe_succeeded(one)
    assert one.doubt is Doubt.NONE
    registry.connection_failed(one, "refused")
    registry.register(one.registration)
    assert one.doubt is Doubt.GONE, "the probe behind a registration may be older"


def test_one_success_of_two_gives_hope(make_registry: Any, describe: Any) -> None:
    registry = make_registry(successes=2)
    one = registry.register(describe(1))
    registry.probe_failed(one, "refused", Doubt.GONE)
    registry.probe_succeeded(one)
    assert (one.doubt, serving(registry)) == (Doubt.BROKEN, [1])


def test_dead_is_told_once_and_when_it_is_certain(
    registry: Registry, fleet: list[Instance], changes: list[Any]
) -> None:
    def told() -> list[tuple[ChangeKind, int]]:
        return [(change.kind, change.instance.port) for change in changes if change.kind is ChangeKind.DEAD]

    for times in (0, 0, 1, 1):
        registry.probe_failed(fleet[0], "refused", Doubt.GONE)
        assert told() == [(ChangeKind.DEAD, 1)] * times
    for times in (0, 0, 1, 1):
        registry.probe_failed(fleet[1], "late", Doubt.LATE)
        assert told()[1:] == [(ChangeKind.DEAD, 2)] * times
    for _ in range(9):
        registry.probe_failed(fleet[2], "status 503")
    assert len(told()) == 2
    registry.probe_succeeded(fleet[0])
    for _ in range(3):
        registry.probe_failed(fleet[0], "refused", Doubt.GONE)
    assert told()[2:] == [(ChangeKind.DEAD, 1)]


def test_reasons_of_a_failed_connection() -> None:
    reasons = ("reset", "first_byte_timeout", "connect_timeout", "protocol", "refused")
    found = [doubt_of(reason) for reason in reasons]
    assert found == [Doubt.BROKEN, Doubt.LATE, Doubt.DEAF, Doubt.SICK, Doubt.GONE]
    assert [(doubt.is_timeout, doubt.leaves_hope) for doubt in (Doubt.NONE, *found)] == [
        (False, False), (False, True), (True, True), (True, True), (False, False), (False, False),
    ]  # fmt: skip


def test_the_log_tells_once_and_when_it_is_over(registry: Registry, fleet: list[Instance], log: Any) -> None:
    due: list[Callable[[], None]] = []
    registry.on_change(ReserveLog(log, lambda _, look: due.append(look)).on_change)
    for instance in fleet:
        registry.connection_failed(instance, "reset")
        registry.probe_failed(instance, "no answer within 5 s", Doubt.LATE)
    (look,) = due  # all changes together
    look()
    lines = [line for level, line in log.lines if level == "warn" and "is healthy" in line]
    (line,) = (line for line in lines if line.startswith("No "))
    urls = "http://10.0.0.1:1, http://10.0.0.1:2"
    assert line == f"No mixed instance is healthy: requests go to the likeliest to serve all the same ({urls})"
    registry.probe_succeeded(fleet[0])
    due[-1]()
    assert log.lines[-1] == ("info", "The mixed requests no longer go to instances that aren't healthy")


def test_the_log_looks_at_no_more_members_than_it_must(registry: Registry, fleet: list[Instance], log: Any) -> None:
    """Thousands that come up change the group all the time: to select among all of them anew is for requests."""
    due: list[Callable[[], None]] = []
    registry.on_change(ReserveLog(log, lambda _, look: due.append(look)).on_change)
    registry.probe_failed(fleet[1], "late", Doubt.LATE)
    due[-1]()
    group = registry.group("mixed")
    assert group._available is None
    assert group.is_serving


@given(steps=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["up", "late", "gone", "drained"])), max_size=12))
def test_a_group_serves_while_it_has_more_than_a_reserve(steps: list[tuple[int, str]]) -> None:
    registry = Registry(clock=lambda: 0.0, log=FakeLog(), live=live_config())
    group = registry.group("mixed")
    fleet = [
        registry.register(parse_registration({"role": "mixed", "host_ip": "10.0.0.1", "port": port}), REGISTER_YAML)
        for port in (1, 2, 3, 4)
    ]
    for number, what in steps:
        if what == "up":
            registry.probe_succeeded(fleet[number])
        elif what == "drained":
            registry.set_draining(fleet[number].key, not fleet[number].is_draining)
        else:
            registry.probe_failed(fleet[number], what, Doubt.LATE if what == "late" else Doubt.GONE)
        found = group.is_serving
        assert found is (bool(group.available) and not group.is_reserve)
        assert group.is_serving is found


def test_one_that_is_not_ready_serves_where_nobody_is_left_and_one_that_ends_never(
    registry: Registry, fleet: list[Instance]
) -> None:
    registry.set_readiness(fleet[0], Readiness.UNREADY)
    registry.set_readiness(fleet[1], Readiness.TERMINATING)
    assert serving(registry) == [3, 4]
    for instance in fleet[2:]:
        registry.set_draining(instance.key, True)
    assert serving(registry) == [1]
    registry.set_readiness(fleet[0], Readiness.TERMINATING)
    assert serving(registry) == []
    registry.set_readiness(fleet[1], Readiness.READY)
    assert serving(registry) == [2]
