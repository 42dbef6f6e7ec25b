"""The memory that the process may use, by the control groups that it is in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fd_router.app.memory import usable_memory


def groups(folder: Path, lines: str, limits: Mapping[str, str]) -> tuple[Path, Path]:
    """Write what the system shows: ``lines`` for the process, and the limits of groups by path."""
    own = folder / "cgroup"
    own.write_text(lines)
    for path, limit in limits.items():
        file = folder / "mount" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(limit + "\n")
    return own, folder / "mount"


def test_the_machines_without_groups(tmp_path: Path) -> None:
    machine = usable_memory(tmp_path / "absent", tmp_path)
    assert machine > 1 << 20


def test_the_least_of_a_group_and_those_above_it(tmp_path: Path) -> None:
    limits = {"a/b/memory.max": "max", "a/memory.max": "3000", "memory.max": "5000"}
    assert usable_memory(*groups(tmp_path, "0::/a/b\n", limits)) == 3000


def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    assert usable_memory(*groups(tmp_path, "0::/kubepods/pod1\n", {"memory.max": "7000"})) == 7000


def test_the_first_version(tmp_path: Path) -> None:
    lines = "3:cpu,cpuacct:/x\n2:memory:/docker/c\n"
    assert usable_memory(*groups(tmp_path, lines, {"memory/docker/c/memory.limit_in_bytes": "9000"})) == 9000


def test_no_limit_is_the_machines(tmp_path: Path) -> None:
    machine = usable_memory(tmp_path / "absent", tmp_path)
    assert usable_memory(*groups(tmp_path, "0::/\n", {"memory.max": "max"})) == machine
