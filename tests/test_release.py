"""Releases: archives without a trace of where they were made, licences, and all files of the page in the wheel."""

from __future__ import annotations

import importlib.util
import io
import tarfile
import tomllib
from email.message import Message
from pathlib import Path
from types import ModuleType

import pytest

from fd_router import __version__

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "fd_router"


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / "packaging" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def archive(names: list[str], *, mtime: int, uid: int, mode: int) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as made:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uid, member.uname, member.mode = len(name), mtime, uid, f"u{uid}", mode
            made.addfile(member, io.BytesIO(name.encode()))
    return packed.getvalue()


def test_an_archive_says_nothing_of_where_it_was_made(release: ModuleType) -> None:
    one = release.normalized(archive(["a", "b"], mtime=1, uid=5, mode=0o600), 100)
    other = release.normalized(archive(["b", "a"], mtime=2, uid=6, mode=0o644), 100)
    assert one == other
    with tarfile.open(fileobj=io.BytesIO(one)) as read:
        assert [(member.name, member.mtime, member.mode) for member in read] == [("a", 100, 0o644), ("b", 100, 0o644)]
        file = read.extractfile("b")
        assert file is not None
        assert file.read() == b"b"


@pytest.mark.parametrize(
    ("told", "licence", "may_be_passed_on"),
    [
        ({"License-Expression": "Apache-2.0"}, "Apache-2.0", True),
        ({"Classifier": "License :: OSI Approved :: MIT License"}, "MIT License", True),
        ({"License": "BSD\nall of it"}, "BSD", True),
        ({"Classifier": "License :: OSI Approved :: GNU Affero General Public License v3"},
         "GNU Affero General Public License v3", False),
        ({}, "", False),
    ],
)  # fmt: skip
def test_licences(release: ModuleType, told: dict[str, str], licence: str, may_be_passed_on: bool) -> None:
    metadata = Message()
    for name, value in told.items():
        metadata[name] = value.replace("\n", "\n ")
    assert release.licence_of(metadata) == licence
    assert bool(release.PERMISSIVE.search(licence)) is may_be_passed_on


def test_the_wheel_has_every_file_that_is_no_module() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["fd_router"]
    packed = {path for pattern in patterns for path in PACKAGE.glob(pattern) if path.is_file()}
    others = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}}
    assert others == packed
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "fd_router.__version__"}
    assert __version__.count(".") == 2


def test_what_is_vendored_is_told_with_its_version(release: ModuleType) -> None:
    told = (ROOT / "docs" / "dashboard.md").read_text()
    for named in release.VENDORED:
        name, _, version = named.partition(" ")
        assert name in told
        assert version in told
