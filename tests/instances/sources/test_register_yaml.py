from __future__ import annotations

from pathlib import Path

import pytest

from fd_router.engines.dialects import Dialects
from fd_router.instances.instance import Health
from fd_router.instances.sources.register_yaml import parse_register_file, register_static

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
    file = parse_register_file(GOOD, Dialects(), splitwise=True)
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
    file = parse_register_file(text, Dialects(), splitwise=False)
    assert {index: entry.port for index, entry in file.entries.items()} == {0: 1, 6: 4}
    mapping = "expected a mapping with role, host_ip and port"
    number = "port: expected an integer or a string, got the number 3.5"
    assert file.problems == (
        "Failed to register instance from index 1: invalid InstanceInfo format: invalid port: 99999",
        "Failed to register instance from index 2: only MIXED instances are allowed",
        f"Failed to register instance from index 3: invalid InstanceInfo format: {mapping}",
        "Failed to register instance from index 4: http://10.0.0.1:1 is at index 0 already",
        f"Failed to register instance from index 5: Invalid InstanceInfo JSON format: {number}",
    )


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
        ("instances: [" + "[" * 1500, "Failed to unmarshal YAML file"),
    ],
)
def test_files_that_hold_nothing_usable(text: str, problem: str) -> None:
    file = parse_register_file(text, Dialects(), splitwise=False)
    assert file.entries == {}
    assert len(file.problems) == 1
    assert problem in file.problems[0]
    assert "\n" not in file.problems[0]


def test_instances_are_kept_and_problems_logged(tmp_path: Path, registry, log) -> None:
    path = tmp_path / "register.yaml"
    path.write_text(GOOD + "  - {role: mixed, host_ip: 10.0.0.1, port: 1}\n")
    problems = register_static(path, registry, splitwise=True, log=log)
    assert [(x.url, x.health) for x in registry.all()] == [
        ("http://127.0.0.1:8097", Health.UNHEALTHY),
        ("http://[::1]:8098", Health.UNHEALTHY),
    ]
    assert log.lines == [("error", problems[0])]
    registry.probe_succeeded(registry.all()[1])
    assert log.lines[1:] == [("info", "Successfully registered instance from index 1: http://[::1]:8098")]


@pytest.mark.parametrize(
    ("content", "why"), [(None, "no such file or directory"), (b"\xff\xfe\x00", "not UTF-8 text (byte 0)")]
)
def test_an_unreadable_file_is_told_and_nothing_else(
    tmp_path: Path, registry, log, content: bytes | None, why: str
) -> None:
    path = tmp_path / "register.yaml"
    if content is not None:
        path.write_bytes(content)
    register_static(path, registry, splitwise=False, log=log)
    assert registry.all() == ()
    [(level, line)] = log.lines
    assert level == "error"
    assert line == f"Failed to read YAML file {path}: {why}"
