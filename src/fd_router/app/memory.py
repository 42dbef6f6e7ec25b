"""The memory that this process may use: its control group's limit, or the machine's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_OWN_GROUPS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")


def usable_memory(groups: Path = _OWN_GROUPS, mount: Path = _MOUNT) -> int:
    """Return it in bytes: the least that a control group allows which this process is in, or the machine has."""
    return min(_machine_memory(), *_limits(groups, mount))


def _machine_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _limits(groups: Path, mount: Path) -> Iterator[int]:
    """Find the limits of the groups from the process' own up to the root; in a container the own looks so."""
    yield 1 << 62
    for file in _limit_files(groups, mount):
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # not "max"
            yield int(text)


def _limit_files(groups: Path, mount: Path) -> Iterator[Path]:
    """Name the files of both versions: each line of ``groups`` is ``number:controllers:path``, ``0::path`` in v2."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        folder, name = (mount / "memory", "memory.limit_in_bytes") if controllers else (mount, "memory.max")
        own = PurePosixPath(path.lstrip("/"))
        for group in (own, *own.parents):
            yield folder / group / name
