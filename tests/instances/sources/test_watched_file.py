"""A file that is followed: each change is taken whole, and a mistake changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from fd_router.instances.sources.members import SourceMembers
from fd_router.instances.sources.watched_file import WatchedFile
from tests.support.discoveries import accept, followed, members_of
from tests.support.waiting import until

Following = AbstractAsyncContextManager[SourceMembers]
Start = Callable[[], Following]


FAILED = "Failed to register instance from index"
WRONG = (
    f"{{path}}:3: {FAILED} 1: invalid InstanceInfo format: port is required; "
    f"{{path}}:4: {FAILED} 2: only MIXED instances are allowed"
)


def write(path: Path, text: str) -> None:
    path.write_text(text)


def link(path: Path, target: str) -> None:
    """Let ``path`` lead to ``target``, in one step."""
    (path.parent / "next").symlink_to(target)
    (path.parent / "next").replace(path)


def remove(path: Path) -> None:
    path.unlink()


def listing(*ports: int) -> str:
    return "instances:\n" + "".join(f"- {{role: mixed, host_ip: 10.0.0.1, port: {port}}}\n" for port in ports)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fleet.yaml"


@pytest.fixture
def follow(path: Path, registry, log) -> Start:
    def follow() -> Following:
        source = WatchedFile(str(path), accept, check_secs=0.01)
        return followed(source, members_of(source, registry, log))

    return follow


def ports(registry) -> list[int]:
    return [instance.port for instance in registry.all()]


async def test_what_it_names_is_followed(path: Path, registry, log, follow: Start) -> None:
    write(path, listing(1, 2))
    async with follow():
        await until(lambda: ports(registry) == [1, 2])
        write(path, '{"instances": [{"role": "mixed", "host_ip": "10.0.0.1", "port": 3}]}')
        await until(lambda: ports(registry) == [3])
        write(path, "instances: []")
        await until(lambda: ports(registry) == [])
    reason = f"no longer in file {path}"
    assert [line for _, line in log.lines] == [
        f"Forgot mixed instance: http://10.0.0.1:{port} ({reason})" for port in (1, 2, 3)
    ]


async def test_another_file_behind_a_link_is_another_file(path: Path, registry, follow: Start) -> None:
    """As Kubernetes puts another ConfigMap in place."""
    for number in (1, 2):
        write(path.parent / f"{number}.yaml", listing(number))
    link(path, "1.yaml")
    async with follow():
        await until(lambda: ports(registry) == [1])
        link(path, "2.yaml")
        await until(lambda: ports(registry) == [2])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "Failed to read YAML file {path}: no such file or directory"),
        ("", "No instances found in config file {path}"),
        (
            listing(5) + "- {role: mixed, host_ip: 10.0.0.1}\n- {role: prefill, host_ip: 10.0.0.1, port: 7}\n",
            WRONG,
        ),
    ],
)
async def test_a_mistake_changes_nothing_and_is_told_once(
    path: Path, registry, log, follow: Start, text: str | None, why: str
) -> None:
    write(path, listing(1))
    async with follow() as members:
        await until(lambda: ports(registry) == [1])
        if text is None:
            remove(path)
        else:
            write(path, text)
        await until(lambda: not members.health.is_up)
        assert ports(registry) == [1]
        write(path, listing(2))
        await until(lambda: ports(registry) == [2])
        assert members.health.is_up
    name = f"file {path}"
    assert log.lines[:2] == [
        ("warn", f"Source {name} can't be read, its instances stay as they are: {why.format(path=path)}"),
        ("info", f"Source {name} is read again"),
    ]


async def test_a_file_that_is_still_written_is_not_read(path: Path, registry, follow: Start, monkeypatch) -> None:
    """Half of a file may look like a whole one."""
    seen: list[list[int]] = []

    async def write_more(_: WatchedFile) -> None:
        seen.append(ports(registry))
        if len(seen) == 4:
            await asyncio.Event().wait()
        if len(seen) < 3:  # the first look finds another file, the second one more of it, the third one the same
            write(path, listing(*range(2, 3 + len(seen))))

    monkeypatch.setattr(WatchedFile, "_pause", write_more)
    write(path, listing(1))
    async with follow():
        await until(lambda: len(seen) == 4)
    assert seen == [[1], [1], [1], [2, 3, 4]]
