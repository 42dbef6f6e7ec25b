from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fd_router.telemetry.logging.file_outlet import FileOutlet, in_background
from fd_router.telemetry.logging.rotation import Archive
from fd_router.telemetry.logging.sink import Sink

NOON = time.mktime((2026, 3, 30, 12, 0, 0, 0, 0, -1))
DAY = 86_400.0


class Setting:
    """A file outlet with clocks to turn; clean-ups are counted and run at once."""

    def __init__(self, directory: Path, max_total_bytes: int = 10_000) -> None:
        self.wall = NOON
        self.monotonic = 0.0
        self.clean_ups = 0
        self.path = directory / "logs" / "router.log"
        archive = Archive(self.path, 7, max_total_bytes, clock=lambda: self.wall)
        self.outlet = FileOutlet(archive, clean_up_secs=60, monotonic=lambda: self.monotonic, run=self.run)

    def run(self, job: Callable[[], None]) -> None:
        self.clean_ups += 1
        job()

    def write(self, text: str, after: float = 0.0) -> None:
        self.monotonic += after
        self.wall += after
        data = bytearray(text.encode())
        assert self.outlet.put(data) == len(data)
        os.utime(self.path, (self.wall, self.wall))

    def contents(self) -> dict[str, str]:
        return {file.name: file.read_text() for file in sorted(self.path.parent.iterdir())}


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    setting = Setting(tmp_path)
    yield setting
    setting.outlet.close()


def test_the_directory_and_the_file_are_made(setting: Setting) -> None:
    setting.write("one\n")
    setting.write("two\n")
    assert setting.contents() == {"router.log": "one\ntwo\n"}


def test_an_existing_log_is_continued(setting: Setting) -> None:
    setting.path.parent.mkdir()
    setting.path.write_text("before\n")
    os.utime(setting.path, (NOON, NOON))
    setting.write("after\n")
    assert setting.contents() == {"router.log": "before\nafter\n"}


def test_a_rotation_by_somebody_else_is_noticed(setting: Setting) -> None:
    setting.write("one\n")
    setting.path.rename(setting.path.with_name("router.log.old"))
    setting.outlet.put(bytearray(b"still the old\n"))
    setting.write("two\n", after=1.0)
    assert setting.contents() == {"router.log": "two\n", "router.log.old": "one\nstill the old\n"}


def test_a_log_deleted_with_its_directory_is_made_again(setting: Setting) -> None:
    setting.write("one\n")
    setting.path.unlink()
    setting.path.parent.rmdir()
    setting.write("two\n", after=1.0)
    assert setting.contents() == {"router.log": "two\n"}


def test_a_new_day_begins_a_new_file(setting: Setting) -> None:
    setting.write("monday\n")
    setting.write("tuesday\n", after=DAY)
    setting.write("tuesday too\n", after=1.0)
    assert setting.contents() == {"router.log": "tuesday\ntuesday too\n", "router.log.2026-03-30": "monday\n"}


def test_lines_written_just_after_midnight_do_not_hide_the_new_day(setting: Setting) -> None:
    setting.write("monday\n")
    setting.wall += DAY
    setting.write("between two inspections\n")  # makes the file look as if it were of today
    setting.write("tuesday\n", after=1.0)
    assert setting.contents()["router.log"] == "tuesday\n"


def test_yesterdays_log_is_put_away_at_the_start(setting: Setting) -> None:
    setting.path.parent.mkdir()
    setting.path.write_text("old\n")
    os.utime(setting.path, (NOON - DAY, NOON - DAY))
    setting.write("new\n")
    assert setting.contents() == {"router.log": "new\n", "router.log.2026-03-29": "old\n"}


def test_a_full_file_is_put_away(setting: Setting) -> None:
    setting.write("x" * 2000 + "\n")
    setting.write("next\n", after=1.0)
    assert list(setting.contents()) == ["router.log", "router.log.2026-03-30"]


def test_all_files_together_stay_within_the_limit(setting: Setting) -> None:
    for number in range(30):
        setting.write(f"{number}" * 1500 + "\n", after=1.0)
    setting.write("end\n", after=60.0)
    assert sum(file.stat().st_size for file in setting.path.parent.iterdir()) <= 10_000
    assert setting.contents()["router.log"].endswith("end\n")


def test_cleaning_up_is_done_at_the_start_after_a_rotation_and_now_and_then(setting: Setting) -> None:
    setting.write("one\n")
    assert setting.clean_ups == 1
    setting.write("two\n", after=59.0)
    assert setting.clean_ups == 1
    setting.write("three\n", after=1.0)
    assert setting.clean_ups == 2
    setting.write("x" * 2000 + "\n")
    setting.write("four\n", after=1.0)
    assert setting.clean_ups == 3


def test_a_file_that_cannot_be_put_away_is_gone_on_with(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "refused")

    setting.write("monday\n")
    monkeypatch.setattr(Path, "rename", refuse)
    setting.write("tuesday\n", after=DAY)
    assert setting.contents() == {"router.log": "monday\ntuesday\n"}


def test_a_device_is_never_put_away_and_a_full_one_raises() -> None:
    outlet = FileOutlet(Archive(Path("/dev/full")), run=lambda job: None)
    with pytest.raises(OSError, match="No space left"):
        outlet.put(bytearray(b"x\n"))
    outlet.close()
    assert Path("/dev/full").is_char_device()


def test_a_full_device_becomes_a_backlog() -> None:
    complaints: list[str] = []
    sink = Sink(FileOutlet(Archive(Path("/dev/full")), run=lambda job: None), limit=10, complain=complaints.append)
    for _ in range(5):
        sink.write(b"1234\n")
    assert sink.lost == 3
    assert len(complaints) == 1
    assert "/dev/full" in complaints[0]
    sink.close()


def test_a_path_that_cannot_be_made_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the directory should be")
    setting = Setting(tmp_path)
    with pytest.raises(OSError):
        setting.outlet.put(bytearray(b"x\n"))


def test_jobs_run_in_the_background() -> None:
    done = threading.Event()
    in_background(done.set)
    assert done.wait(10)
