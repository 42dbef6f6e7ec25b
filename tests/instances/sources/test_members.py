"""Sources that name instances, one at a time and several at once."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from fd_router.engines.dialects import Dialects
from fd_router.instances.instance import Health, Readiness
from fd_router.instances.registration import require_served
from fd_router.instances.source import REGISTER_API, REGISTER_YAML, STATE_FILE, discovery
from fd_router.instances.sources.members import Diff, FleetSources

FIRST, SECOND = discovery("first", 0), discovery("second", 1)
KEY = "10.0.0.1:1"


@pytest.fixture
def fleet(registry, log) -> FleetSources:
    return FleetSources(registry, partial(require_served, dialects=Dialects(), splitwise=False), log=log)


@pytest.fixture
def members(fleet):
    """The members of every kind of source, by its name."""
    sources = (SECOND, REGISTER_API, STATE_FILE, FIRST, REGISTER_YAML)  # the order in which they ask doesn't matter
    return {source.name: fleet.members_of(source) for source in sources}


def test_what_registers_itself_may_be_chosen_at_once_and_expires(registry, members, describe, clock) -> None:
    instance = members["register"].upsert(describe(1))
    assert (instance.health, instance.source) == (Health.HEALTHY, REGISTER_API)
    registry.probe_failed(instance, "x")
    clock.now += 301
    assert registry.expire() == (instance,)


@pytest.mark.parametrize("name", ["first", "register.yaml", "state file"])
def test_what_others_name_is_probed_first(registry, members, describe, name: str) -> None:
    instance = members[name].upsert(describe(1))
    assert (instance.health, instance.source.name) == (Health.UNHEALTHY, name)
    registry.probe_succeeded(instance)
    assert registry.group("mixed").available == (instance,)


@pytest.mark.parametrize(("name", "stays"), [("first", True), ("register.yaml", True), ("state file", False)])
def test_what_a_list_names_never_expires(registry, members, describe, clock, name: str, stays: bool) -> None:
    members[name].upsert(describe(1))
    clock.now += 1e6
    registry.expire()
    assert (registry.get(KEY) is not None) is stays


@pytest.mark.parametrize(
    ("names", "owner", "port"),
    [
        (("register", "first"), "first", 2),
        (("first", "register"), "first", 2),  # the instance's own word counts, and doesn't make it another's
        (("first", "second"), "first", 1),
        (("second", "first"), "first", 2),
        (("first", "register.yaml"), "register.yaml", 2),
        (("register.yaml", "first"), "register.yaml", 1),
        (("state file", "register"), "register", 2),
        (("register", "state file"), "register", 1),
        (("register.yaml", "state file"), "register.yaml", 1),
        (("first", "first"), "first", 2),
    ],
)
def test_of_several_sources_the_highest_has_it(registry, members, describe, names, owner: str, port: int) -> None:
    """``port``: of the metrics, by which of the two its data are."""
    for number, name in enumerate(names, 1):
        members[name].upsert(describe(1, metrics_port=number))
    instance = registry.get(KEY)
    assert (instance.source.name, instance.registration.metrics_port) == (owner, port)


def test_when_one_list_drops_it_the_next_that_names_it_has_it(registry, members, describe, log) -> None:
    for name in ("second", "first", "register.yaml"):
        members[name].upsert(describe(1))
    instance = registry.get(KEY)
    registry.probe_succeeded(instance)
    for name, heir in (("register.yaml", "first"), ("first", "second")):
        assert members[name].remove(KEY)
        assert (registry.get(KEY), instance.source.name) == (instance, heir)
        assert instance.health is Health.HEALTHY
    assert not members["first"].remove(KEY)
    assert members["second"].remove(KEY)
    assert registry.get(KEY) is None
    assert log.lines[-1] == ("info", "Forgot mixed instance: http://10.0.0.1:1 (no longer in second)")


def test_one_that_also_registered_itself_is_removed_with_its_list(registry, members, describe) -> None:
    members["first"].upsert(describe(1))
    members["register"].upsert(describe(1))
    members["first"].remove(KEY)
    assert registry.get(KEY) is None
    assert members["register"].upsert(describe(1)).source is REGISTER_API  # with its next heartbeat


def test_two_lists_that_name_one_are_told_once(registry, members, describe, log) -> None:
    members["first"].upsert(describe(1))
    log.lines.clear()
    for _ in range(3):
        members["second"].replace([describe(1), describe(2)])
    warnings = [line for level, line in log.lines if level == "warn"]
    assert warnings == ["http://10.0.0.1:1, which second names, is a member of first, which comes first"]


def test_a_list_that_says_nothing_new_leaves_what_the_instance_said(registry, members, describe) -> None:
    listed = [describe(1), describe(2)]
    members["first"].replace(listed)
    members["register"].upsert(describe(1, tp_size=4))
    before = registry.group("mixed").available
    assert members["first"].replace(listed) == Diff()
    assert registry.get(KEY).registration.tp_size == 4
    assert registry.group("mixed").available is before
    members["first"].replace([describe(1, tp_size=8), describe(2)])
    assert registry.get(KEY).registration.tp_size == 8


def test_a_new_list_takes_the_place_of_the_old_one(registry, members, describe) -> None:
    assert members["first"].replace([describe(1), describe(2)]) == Diff(("10.0.0.1:1", "10.0.0.1:2"), ())
    registry.get(KEY).acquire(5)
    assert members["first"].replace(iter([describe(2), describe(3)])) == Diff(("10.0.0.1:3",), (KEY,))
    assert [x.key for x in registry.all()] == ["10.0.0.1:2", "10.0.0.1:3"]
    assert [x.key for x in registry.removed_in_use()] == [KEY], "its request goes on"
    assert repr(members["first"]) == "<SourceMembers of first: 2>"
    assert members["first"].replace([]) == Diff((), ("10.0.0.1:2", "10.0.0.1:3"))


async def test_others_have_a_turn_while_what_is_named_is_made(members, describe, monkeypatch) -> None:
    monkeypatch.setattr("fd_router.http.pace.SLICE_SECS", -1.0)  # each slice is over at once
    turns: list[int] = [0]

    async def take_turns() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    task, seen = asyncio.create_task(take_turns()), []
    await members["first"].replace_in_slices((seen.append(turns[0]), describe(port))[1] for port in range(1, 51))
    task.cancel()
    assert len(set(seen)) == 50


async def test_thousands_are_named_in_slices_between_which_others_have_a_turn(registry, members, describe) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    listed = [describe(port) for port in range(1, 5001)]
    task = asyncio.create_task(others())
    diff = await members["first"].replace_in_slices(listed)
    assert (len(diff.added), diff.removed) == (5000, ())
    assert len(registry.all()) == 5000
    diff = await members["first"].replace_in_slices([])
    assert (diff.added, len(diff.removed)) == ((), 5000)
    task.cancel()
    assert turns > 2


def test_what_cannot_be_a_member_is_left_out_and_told_once(registry, members, describe, log) -> None:
    members["first"].upsert(describe(1))
    for _ in range(3):
        assert members["first"].upsert(describe(1, "decode")) is None
    assert registry.all() == ()
    warnings = [line for level, line in log.lines if level == "warn"]
    assert warnings == ["http://10.0.0.1:1, which first names, is left out: only MIXED instances are allowed"]
    assert members["first"].upsert(describe(1)) is not None
    assert members["first"].upsert(describe(1, "decode")) is None
    assert len([line for level, line in log.lines if level == "warn"]) == 2, "it was right in between"


def test_what_an_admin_banned_stays_away_until_the_ban_ends(registry, members, describe, clock) -> None:
    listed = [describe(1), describe(2)]
    members["first"].replace(listed)
    registry.remove(KEY, "removed by an admin")
    registry.ban(KEY, 60)
    assert members["first"].replace(listed) == Diff()
    assert registry.get(KEY) is None
    clock.now += 61
    assert members["first"].replace(listed) == Diff((KEY,), ())


def test_an_admins_removal_without_a_ban_holds_until_it_is_named_again(registry, members, describe) -> None:
    members["first"].replace([describe(1)])
    registry.remove(KEY, "removed by an admin")
    assert registry.get(KEY) is None
    assert members["first"].replace([describe(1)]) == Diff((KEY,), ())


def test_a_reload_brings_back_what_the_operators_own_file_names(registry, members, describe) -> None:
    members["register.yaml"].replace([describe(1)], indices=[4])
    registry.remove(KEY, "removed by an admin")
    registry.ban(KEY, 60)
    assert members["register.yaml"].replace([describe(1)], indices=[4]) == Diff((KEY,), ())


def test_log_lines_tell_the_source(registry, members, describe, log) -> None:
    members["first"].upsert(describe(1))
    members["register.yaml"].replace([describe(2)], indices=[4])
    for port in (1, 2):
        registry.probe_failed(registry.get(f"10.0.0.1:{port}"), "refused")
    assert [line.partition(" is not healthy (refused)")[0] for _, line in log.lines] == [
        "Failed to register instance from first: http://10.0.0.1:1",
        "Failed to register instance from index 4: http://10.0.0.1:2",
    ]


def test_what_it_shows(fleet, members) -> None:
    assert repr(fleet) == "<FleetSources, lists: register.yaml, first, second>"


def test_what_a_source_says_of_its_member_holds_until_it_is_another_ones(registry, members, describe, log) -> None:
    """The instance itself can't take it back, nor can a source that it isn't a member of."""
    instance = members["second"].upsert(describe(1))
    members["second"].set_readiness(KEY, Readiness.TERMINATING)
    members["register"].upsert(describe(1, tp_size=4))
    members["first"].set_readiness(KEY, Readiness.UNREADY)
    assert instance.readiness is Readiness.TERMINATING
    members["first"].upsert(describe(1))
    assert instance.readiness is Readiness.READY
    members["first"].set_readiness(KEY, Readiness.UNREADY)
    members["second"].upsert(describe(1, tp_size=2))
    members["first"].remove(KEY)
    assert (instance.source.name, instance.readiness) == ("second", Readiness.READY)
    members["second"].set_readiness(KEY, Readiness.UNREADY)
    members["second"].remove(KEY)
    assert members["second"].upsert(describe(1)).readiness is Readiness.READY
    members["second"].set_readiness("10.0.0.9:1", Readiness.UNREADY)  # nobody
    assert [line for _, line in log.lines if line.startswith("Server")] == [
        "Server http://10.0.0.1:1 terminates: no new requests, 0 running",
        "Server http://10.0.0.1:1 is ready again, says first",
        "Server http://10.0.0.1:1 is not ready, says first: no new requests while others serve",
        "Server http://10.0.0.1:1 is ready again, says second",
        "Server http://10.0.0.1:1 is not ready, says second: no new requests while others serve",
    ]
