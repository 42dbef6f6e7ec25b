from __future__ import annotations

import time
from pathlib import Path

import pytest

from fd_router.telemetry.logging.rotation import Archive

NOON = time.mktime((2026, 3, 30, 12, 0, 0, 0, 0, -1))
DAY = 86_400


def archive(directory: Path, max_age_days: int = 7, max_total_bytes: int = 1000) -> Archive:
    return Archive(directory / "router.log", max_age_days, max_total_bytes, clock=lambda: NOON)


def fill(directory: Path, **sizes: int) -> None:
    for name, size in sizes.items():
        (directory / ("router.log" + name.replace("_", "-").replace("d", ".").replace("n", "."))).write_bytes(
            b"x" * size
        )


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


def test_each_file_put_away_gets_a_free_name(tmp_path: Path) -> None:
    subject = archive(tmp_path)
    for content in (b"first", b"second", b"third"):
        subject.path.write_bytes(content)
        subject.put_away(subject.today())
    assert names(tmp_path) == ["router.log.2026-03-30", "router.log.2026-03-30.1", "router.log.2026-03-30.2"]
    assert (tmp_path / "router.log.2026-03-30.1").read_bytes() == b"second"


def test_files_too_old_go(tmp_path: Path) -> None:
    fill(tmp_path, d2026_03_22=1, d2026_03_23=1, d2026_03_29n1=1, d2025_12_31n4=1)
    archive(tmp_path).clean_up()
    assert names(tmp_path) == ["router.log.2026-03-23", "router.log.2026-03-29.1"]


def test_the_oldest_go_until_the_rest_is_small_enough(tmp_path: Path) -> None:
    (tmp_path / "router.log").write_bytes(b"x" * 100)
    fill(tmp_path, d2026_03_28=400, d2026_03_29=400, d2026_03_29n2=300, d2026_03_29n10=200)
    archive(tmp_path).clean_up()
    assert names(tmp_path) == [
        "router.log",
        "router.log.2026-03-29",
        "router.log.2026-03-29.10",
        "router.log.2026-03-29.2",
    ]


def test_without_limits_everything_stays(tmp_path: Path) -> None:
    fill(tmp_path, d2020_01_01=5000)
    subject = archive(tmp_path, 0, 0)
    subject.clean_up()
    assert names(tmp_path) == ["router.log.2020-01-01"]
    assert subject.full_at == float("inf")


@pytest.mark.parametrize(
    "name",
    [
        "router.log.gz",
        "router.log.2020-01-01.gz",
        "router.log.2020-02-30",
        "other.log.2020-01-01",
        "xrouter.log.2020-01-01",
    ],
)
def test_other_files_are_never_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x" * 5000)
    archive(tmp_path).clean_up()
    assert names(tmp_path) == [name]


def test_a_directory_that_is_gone_is_no_error(tmp_path: Path) -> None:
    archive(tmp_path / "gone").clean_up()
