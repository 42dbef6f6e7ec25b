"""The file of a recording: what becomes of it when the disk is full."""

from __future__ import annotations

import asyncio
import errno
import io
import threading

import pytest

from fd_router.app import recording as app_recording
from fd_router.app.recording import Recording
from fd_router.config.loading import SchedulerConfig
from fd_router.scheduling.recording import events
from tests.support.waiting import until


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, text: str) -> None:
        self.lines.append(text)


class Disk(io.RawIOBase):
    """Takes as many bytes as there is room for, as a disk does: first a part, then none."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.content = room, b""

    def write(self, data) -> int:
        taken = bytes(data[: self.room])
        if data and not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.content += taken
        self.room -= len(taken)
        return len(taken)


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setattr(app_recording, "FLUSH_SECS", 0)
    log = Log()
    recording = Recording(tmp_path / "recording.jsonl", 1 << 20, log, SchedulerConfig())
    recording._file.close()
    return recording, log


async def test_a_full_disk_ends_it_at_once_and_for_good(made):
    recording, log = made
    recording._file = disk = Disk(1000)
    for number in range(100):
        recording.recorder.write(events.Held(number))
    await asyncio.wait_for(recording.run(), 10)
    assert not recording.recorder.is_open
    assert [line.split("; ")[1] for line in log.lines] == ["it ends here"]
    assert "No space left on device" in log.lines[0]
    disk.room = 1 << 20
    recording.close()
    assert len(disk.content) == 1000


async def test_what_came_while_the_disk_was_asked_is_not_written_behind_a_cut_line(made):
    recording, _ = made
    disk = Disk(1000)

    class Slow(Disk):
        def write(self, data) -> int:
            try:
                return disk.write(data)
            except OSError:
                recording.recorder.write(events.Held(1))  # meanwhile
                disk.room = 1 << 20
                raise

    recording._file = Slow(0)
    for number in range(100):
        recording.recorder.write(events.Held(number))
    await asyncio.wait_for(recording.run(), 10)
    recording.close()
    assert len(disk.content) == 1000


async def test_a_disk_that_takes_it_in_parts_has_all_of_it(made):
    recording, log = made

    class Small(Disk):
        def write(self, data) -> int:
            return super().write(data[:7])

    recording._file = disk = Small(1 << 20)
    for number in range(10):
        recording.recorder.write(events.Held(number))
    recording.close()
    assert disk.content.count(b"\n") == 11
    assert not log.lines


@pytest.mark.parametrize("is_full", [False, True])
async def test_what_is_left_at_the_end_comes_behind_what_a_thread_still_writes(made, is_full):
    recording, _ = made
    begun, gate = threading.Event(), threading.Event()

    class Slow(Disk):
        def write(self, data) -> int:
            if not begun.is_set():
                begun.set()
                assert gate.wait(60)
                if is_full:
                    raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    recording._file = disk = Slow(1 << 20)
    expected = b"".join(recording._waiting)
    running = asyncio.create_task(recording.run())
    await until(begun.is_set)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    recording.recorder.write(events.Held(1))
    expected += b"".join(recording._waiting)
    threading.Timer(0.05, gate.set).start()
    recording.close()
    assert disk.content == (b"" if is_full else expected)


async def test_a_disk_that_hangs_keeps_nothing_from_ending(made, monkeypatch):
    monkeypatch.setattr(app_recording, "LAST_SECS", 0.01)
    recording, log = made
    begun, gate = threading.Event(), threading.Event()

    class Hanging(Disk):
        def write(self, data) -> int:
            begun.set()
            assert gate.wait(60)
            return super().write(data)

    recording._file = Hanging(1 << 20)
    running = asyncio.create_task(recording.run())
    await until(begun.is_set)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    recording.close()
    gate.set()
    assert "can't be written: it takes longer than 0.01 s; it ends here" in log.lines[0]
