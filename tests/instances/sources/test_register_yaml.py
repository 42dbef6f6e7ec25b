from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from fd_router.engines.dialects import Dialects
from fd_router.errors import ConfigError
from fd_router.instances.instance import Health
from fd_router.instances.registration import require_served
from fd_router.instances.source import REGISTER_YAML
from fd_router.instances.sources.members import Diff, FleetSources, SourceMembers
from fd_router.instances.sources.register_yaml import RegisterYaml, parse_register_file

GOOD = """
instances:
  - role: prefill
    host_ip: 127.0.0.1
    port: 8097
    connector_port: 8001
    transfer_protocol: [ipc, rdma]
    rdma_ports: [7100, "7101"]
    device_ids: [0, "1"]
  - {role: decode, host_ip: "::1", port: "8098"}
"""


def test_entries_keep_their_index() -> None:
    file = parse_register_file(GOOD, partial(require_served, dialects=Dialects(), splitwise=True))
    assert file.problems == ()
    assert {index: entry.url for index, entry in file.entries.items()} == {
        0: "http://127.0.0.1:8097",
        1: "http://[::1]:8098",
    }
    assert file.entries[0].rdma_ports == ("7100", "7101")


def test_a_bad_entry_leaves_the_others() -> None:
    text = """
instances:
  - {role: mixed, host_ip: 10.0.0.1, port: 1}
  - {role: mixed, host_ip: 10.0.0.1, port: 99999}
  - {role: decode, host_ip: 10.0.0.1, port: 2}
  - just text
  - {role: mixed, host_ip: 10.0.0.1, port: 1}
  - {role: mixed, host_ip: 10.0.0.1, port: 3.5}
  - {role: mixed, host_ip: 10.0.0.1, port: 4, 7: odd key}
"""
    file = parse_register_file(text, partial(require_served, dialects=Dialects(), splitwise=False))
    assert {index: entry.port for index, entry in file.entries.items()} == {0: 1, 6: 4}
    mapping = "expected a mapping with role, host_ip and port"
    number = "port: expected an integer or a string, got the number 3.5"
    assert [problem.text for problem in file.problems] == [
        "Failed to register instance from index 1: invalid InstanceInfo format: invalid port: 99999",
        "Failed to register instance from index 2: only MIXED instances are allowed",
        f"Failed to register instance from index 3: invalid InstanceInfo format: {mapping}",
        "Failed to register instance from index 4: http://10.0.0.1:1 is at index 0 already",
        f"Failed to register instance from index 5: Invalid InstanceInfo JSON format: {number}",
    ]
    assert [problem.place for problem in file.problems] == [f"register.yaml:{line}" for line in (4, 5, 6, 7, 8)]


def test_everything_that_is_wrong_with_an_entry_is_told() -> None:
    text = "# fleet\ninstances:\n\n  - role: mixed\n    port: 0x1ffff\n    tp_size: many\n"
    file = parse_register_file(text, partial(require_served, dialects=Dialects(), splitwise=False), name="r.yaml")
    begin = "r.yaml:4: Failed to register instance from index 0:"
    assert [str(problem) for problem in file.problems] == [
        f"{begin} invalid InstanceInfo format: host_ip is required",
        f"{begin} invalid InstanceInfo format: invalid port: 131071",
        f"{begin} Invalid InstanceInfo JSON format: tp_size: expected a small integer, got a string",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "No instances found"),
        ("instances:", "No instances found"),
        ("other: 1", "No instances found"),
        ("instances: 5", "expected a key 'instances' with a list"),
        ("[]", "expected a key 'instances' with a list"),
        ("instances: [", "Failed to unmarshal YAML file"),
        ("instances: 2026-13-45", "Failed to unmarshal YAML file"),
        ("a: &a [*a]\ninstances: *a", "expected a mapping"),
        ("instances: &a [{role: mixed, host_ip: 10.0.0.1, port: 1, x: *a}]", "nested deeper"),
        ("instances: [" + "[" * 500, "Failed to unmarshal YAML file"),
    ],
)
def test_files_that_hold_nothing_usable(text: str, problem: str) -> None:
    file = parse_register_file(text, partial(require_served, dialects=Dialects(), splitwise=False))
    assert file.entries == {}
    assert len(file.problems) == 1
    assert problem in file.problems[0].text
    assert "\n" not in file.problems[0].text


def run(source: RegisterYaml, members: SourceMembers) -> None:
    asyncio.run(source.run(members))


def make(path: Path, registry, log, *, splitwise: bool = False) -> tuple[RegisterYaml, SourceMembers]:
    accept = partial(require_served, dialects=Dialects(), splitwise=splitwise)
    members = FleetSources(registry, accept, log=log).members_of(REGISTER_YAML)
    return RegisterYaml(str(path), accept, log=log), members


def test_instances_are_named_and_problems_logged(tmp_path: Path, registry, log) -> None:
    path = tmp_path / "register.yaml"
    path.write_text(GOOD + "  - {role: mixed, host_ip: 10.0.0.1, port: 1}\n")
    run(*make(path, registry, log, splitwise=True))
    assert [(x.url, x.health) for x in registry.all()] == [
        ("http://127.0.0.1:8097", Health.UNHEALTHY),
        ("http://[::1]:8098", Health.UNHEALTHY),
    ]
    role = "Failed to register instance from index 2: splitwise mode only supports PREFILL/DECODE instances"
    assert log.lines == [("error", role)]
    registry.probe_succeeded(registry.all()[1])
    assert log.lines[1:] == [("info", "Successfully registered instance from index 1: http://[::1]:8098")]


@pytest.mark.parametrize(
    ("content", "why"), [(None, "no such file or directory"), (b"\xff\xfe\x00", "not UTF-8 text (byte 2)")]
)
def test_an_unreadable_file_is_told_and_nothing_else(
    tmp_path: Path, registry, log, content: bytes | None, why: str
) -> None:
    path = tmp_path / "register.yaml"
    if content is not None:
        path.write_bytes(content)
    run(*make(path, registry, log))
    assert registry.all() == ()
    assert log.lines == [("error", f"Failed to read YAML file {path}: {why}")]


def test_a_file_read_anew_changes_nothing_until_it_is_put_in_force(tmp_path: Path, registry, log, describe) -> None:
    path, other = tmp_path / "register.yaml", tmp_path / "other.yaml"
    path.write_text("instances: [{role: mixed, host_ip: 10.0.0.1, port: 1}, {role: mixed, host_ip: 10.0.0.1, port: 2}]")
    source, members = make(path, registry, log)
    run(source, members)
    registry.register(describe(2, max_requests=7))
    other.write_text(
        "instances: [{role: mixed, host_ip: 10.0.0.1, port: 2}, {role: mixed, host_ip: 10.0.0.1, port: 3}]"
    )
    with pytest.raises(ConfigError):
        source.prepare(str(tmp_path / "none.yaml"))
    name = source.prepare(str(other))
    assert repr(source) == f"<RegisterYaml {path}>"
    assert [x.port for x in registry.all()] == [1, 2]
    assert asyncio.run(name(members)) == Diff(("10.0.0.1:3",), ("10.0.0.1:1",))
    assert [x.port for x in registry.all()] == [2, 3]
    assert registry.get("10.0.0.1:2").registration.max_requests == 7, "what it said of itself since stays"
    assert ("info", f"Forgot mixed instance: http://10.0.0.1:1 (no longer in {other})") in log.lines
    assert asyncio.run(source.prepare("")(members)) == Diff((), ("10.0.0.1:2", "10.0.0.1:3"))
    assert log.lines[-1] == ("info", "Forgot mixed instance: http://10.0.0.1:3 (no register.yaml)")
