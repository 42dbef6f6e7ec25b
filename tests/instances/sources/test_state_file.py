from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest

from fd_router.engines.dialects import Dialects
from fd_router.instances.instance import Health
from fd_router.instances.registration import require_served
from fd_router.instances.source import REGISTER_YAML, STATE_FILE
from fd_router.instances.sources.members import FleetSources
from fd_router.instances.sources.state_file import StateFile
from tests.support.waiting import until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "instances.json"


accept = partial(require_served, dialects=Dialects(), splitwise=False)


def make(path: Path, registry, log, **more) -> StateFile:
    return StateFile(path, registry, accept, log=log, **more)


def restore(path: Path, registry, log, **more) -> int:
    members = FleetSources(registry, accept, log=log).members_of(STATE_FILE)

    async def run() -> int:
        return await make(path, registry, log, **more).restore(members)

    return asyncio.run(run())


def test_instances_that_registered_themselves_come_back_to_be_probed(path, make_registry, describe, log) -> None:
    before, after = make_registry(), make_registry()
    before.register(describe(1, tp_size=2, something="else"))
    before.register(describe(2, host_ip="::1"))
    before.register(describe(3), REGISTER_YAML, index=0)
    before.set_draining("[::1]:2", True)
    asyncio.run(make(path, before, log).finish())
    assert restore(path, after, log) == 2
    assert [x.registration for x in after.all()] == [
        describe(1, tp_size=2, something="else"),
        describe(2, host_ip="::1"),
    ]
    assert {x.health for x in after.all()} == {Health.UNHEALTHY}
    assert after.group("mixed").available == ()
    for instance in after.all():
        after.probe_succeeded(instance)
    assert [x.key for x in after.group("mixed").available] == ["10.0.0.1:1"]  # the other one drains on
    assert log.lines[-1][1].startswith("Successfully registered mixed instance: ")


def test_a_kept_instance_drains_on(path, make_registry, describe, log) -> None:
    before, after = make_registry(), make_registry()
    for registry in (before, after):
        registry.register(describe(1), REGISTER_YAML, index=0)
    before.set_draining("10.0.0.1:1", True)
    asyncio.run(make(path, before, log).finish())
    assert restore(path, after, log) == 0
    assert after.get("10.0.0.1:1").is_draining
    assert after.get("10.0.0.1:1").source is REGISTER_YAML


def test_a_restored_one_that_never_comes_up_is_forgotten(path, make_registry, describe, log, clock) -> None:
    before, after = make_registry(), make_registry(expiry_secs=60)
    before.register(describe(1))
    asyncio.run(make(path, before, log).finish())
    restore(path, after, log)
    clock.now += 61
    assert [x.key for x in after.expire()] == ["10.0.0.1:1"]


def test_no_file_is_no_error(path, registry, log) -> None:
    assert restore(path, registry, log) == 0
    assert log.lines == []


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"instances": 1}', b"\xff\xfe", b'{"draining": [1]}'])
def test_a_broken_file_is_told_and_not_used(path, registry, log, text: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(text)
    assert restore(path, registry, log) == 0
    ((level, line),) = log.lines
    assert (level, str(path) in line) == ("error", True)
    assert "starting without it" in line


def test_what_does_not_fit_is_left_out_and_the_rest_taken(path, registry, describe, log) -> None:
    path.parent.mkdir()
    entries = [describe(1).as_json(), describe(2, "decode").as_json(), {"role": "mixed", "host_ip": "x y", "port": 1}]
    path.write_text(json.dumps({"instances": entries}))
    assert restore(path, registry, log) == 1
    assert [line for level, line in log.lines if level == "warn"] == [
        f"An instance of state file {path} is left out: only MIXED instances are allowed",
        f"An instance of state file {path} is left out: invalid InstanceInfo format: invalid host_ip: x y",
    ]


def test_what_may_not_register_any_more_does_not_come_back(path, make_registry, describe, log) -> None:
    before, after = make_registry(), make_registry()
    before.register(describe(1))
    before.register(describe(1, host_ip="10.9.0.1"))
    asyncio.run(make(path, before, log).finish())
    assert restore(path, after, log, networks={"10.9.0.1"}) == 1
    assert [x.key for x in after.all()] == ["10.9.0.1:1"]
    assert any("10.0.0.1 is in none of access.register-networks" in line for _, line in log.lines)


async def test_thousands_are_taken_in_while_others_have_a_turn(path, make_registry, describe, log, monkeypatch) -> None:
    monkeypatch.setattr("fd_router.http.pace.SLICE_SECS", -1.0)  # each slice is over at once
    before, after = make_registry(), make_registry()
    for port in range(1, 101):
        before.register(describe(port))
    await make(path, before, log).finish()
    file, turns = make(path, after, log), []
    restoring = asyncio.create_task(file.restore(FleetSources(after, accept, log=log).members_of(STATE_FILE)))
    while not restoring.done():
        turns.append(len(after.all()))
        await asyncio.sleep(0)
    assert len(after.all()) == 100
    assert len(set(turns)) > 90


async def test_one_that_ends_before_all_is_known_leaves_the_file_as_it_is(path, make_registry, describe, log) -> None:
    before, after = make_registry(), make_registry()
    before.register(describe(1))
    before.set_draining("10.0.0.1:1", True)
    await make(path, before, log).finish()
    text, known = path.read_bytes(), asyncio.Event()
    file = make(path, after, log, lists_are_known=known.wait)
    task = asyncio.create_task(file.run(FleetSources(after, accept, log=log).members_of(STATE_FILE)))
    await until(lambda: len(after.all()) == 1)
    assert not file.has_named.is_set()
    await file.finish()
    assert path.read_bytes() == text
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert file.has_named.is_set()


async def test_what_a_list_names_later_drains_on(path, make_registry, describe, log) -> None:
    before, after = make_registry(), make_registry()
    before.register(describe(1), REGISTER_YAML, index=0)
    before.set_draining("10.0.0.1:1", True)
    await make(path, before, log).finish()
    known = asyncio.Event()
    file = make(path, after, log, lists_are_known=known.wait)
    restoring = asyncio.create_task(file.restore(FleetSources(after, accept, log=log).members_of(STATE_FILE)))
    await asyncio.sleep(0.05)
    after.register(describe(1), REGISTER_YAML, index=0)
    known.set()
    await restoring
    assert after.get("10.0.0.1:1").is_draining


async def test_every_change_is_written_soon(path, registry, describe, log, monkeypatch) -> None:
    monkeypatch.setattr("fd_router.instances.sources.state_file.SAVE_SECS", 0.01)
    members = FleetSources(registry, accept, log=log).members_of(STATE_FILE)
    task = asyncio.create_task(make(path, registry, log).run(members))
    ports = lambda: [x["port"] for x in json.loads(path.read_bytes())["instances"]]  # noqa: E731
    await until(path.exists)
    assert ports() == []
    registry.register(describe(1))
    await until(lambda: ports() == [1])
    registry.register(describe(1, tp_size=4))
    await until(lambda: json.loads(path.read_bytes())["instances"][0]["tp_size"] == 4)
    registry.remove("10.0.0.1:1")
    await until(lambda: ports() == [])
    assert [x.name for x in path.parent.iterdir()] == [path.name]  # no temporary file is left
    task.cancel()


async def test_the_last_write_is_the_last(path, registry, describe, log, monkeypatch) -> None:
    monkeypatch.setattr("fd_router.instances.sources.state_file.SAVE_SECS", 0.01)
    file = make(path, registry, log)
    task = asyncio.create_task(file.run(FleetSources(registry, accept, log=log).members_of(STATE_FILE)))
    registry.register(describe(1))
    await until(path.exists)
    await file.finish()
    path.unlink()  # another router's now
    registry.register(describe(2))
    await asyncio.wait_for(task, 5)
    assert not path.exists()


async def test_a_file_that_cannot_be_written_is_told_once(tmp_path: Path, registry, describe, log) -> None:
    (tmp_path / "file").write_text("")
    file = make(tmp_path / "file" / "state.json", registry, log)
    for port in (1, 2):
        registry.register(describe(port))
        await file.finish()
    assert len([line for level, line in log.lines if level == "error"]) == 1
    assert "Failed to write state file" in next(line for level, line in log.lines if level == "error")
