from __future__ import annotations

import errno
import os

from fd_router.telemetry.logging.sink import Sink, complain_on_stderr


class FakeOutlet:
    """Takes ``room`` bytes (None = all), or raises ``error``."""

    name = "fake"

    def __init__(self) -> None:
        self.got = b""
        self.room: int | None = None
        self.error: OSError | None = None
        self.closed = False
        self.waits = 0

    def put(self, data: bytearray) -> int:
        if self.room:
            count = min(self.room, len(data))
            self.room -= count
            self.got += data[:count]
            return count
        if self.error:
            raise self.error
        if self.room == 0:
            return 0
        self.got += data
        return len(data)

    def wait(self, seconds: float) -> bool:
        self.waits += 1
        return False

    def close(self) -> None:
        self.closed = True


def make(limit: int = 100) -> tuple[FakeOutlet, list[str], Sink]:
    outlet, complaints = FakeOutlet(), []
    return outlet, complaints, Sink(outlet, limit=limit, complain=complaints.append)


def test_lines_go_straight_through() -> None:
    outlet, complaints, sink = make()
    sink.write(b"one\n")
    assert (outlet.got, sink.has_backlog, sink.take_recovery_notice(), complaints) == (b"one\n", False, "", [])


def test_partial_writes_are_continued_where_they_stopped() -> None:
    outlet, complaints, sink = make()
    outlet.room = 3
    sink.write(b"one\ntwo\n")
    assert (outlet.got, sink.has_backlog) == (b"one", True)
    outlet.room = None
    sink.write(b"three\n")
    assert (outlet.got, complaints) == (b"one\ntwo\nthree\n", [])
    assert sink.take_recovery_notice() == ""  # slow isn't broken


def test_a_full_disk_is_told_once_and_loses_only_what_is_over_the_limit() -> None:
    outlet, complaints, sink = make(limit=10)
    outlet.error = OSError(errno.ENOSPC, "No space left on device")
    for word in (b"aaa\n", b"bbb\n", b"ccc\n", b"ddd\n"):
        sink.write(word)
    assert len(complaints) == 1
    assert "fake" in complaints[0]
    assert "No space left" in complaints[0]
    assert sink.lost == 2
    outlet.error = None
    sink.write(b"")
    assert outlet.got == b"ccc\nddd\n"
    assert sink.take_recovery_notice() == "Log fake can be written again, 2 lines were lost"
    assert sink.take_recovery_notice() == ""
    outlet.error = OSError(errno.ENOSPC, "again")
    sink.write(b"eee\n")
    assert len(complaints) == 2


def test_lines_lost_to_a_slow_reader_are_told() -> None:
    outlet, complaints, sink = make(limit=4)
    outlet.room = 0
    sink.write(b"aaa\n")
    sink.write(b"bbb\n")
    outlet.room = None
    sink.write(b"")
    assert (outlet.got, complaints) == (b"bbb\n", [])
    assert "1 lines were lost" in sink.take_recovery_notice()


def test_retries_are_quick_for_a_slow_reader_and_slower_for_a_fault() -> None:
    outlet, _, sink = make()
    outlet.room = 0
    sink.write(b"a\n")
    slow = sink.retry_secs
    outlet.error = OSError(errno.EIO, "broken")
    sink.write(b"")
    assert 0 < slow < sink.retry_secs


def test_close_ends_although_nothing_can_be_written() -> None:
    for error in (None, OSError(errno.EIO, "broken")):
        outlet, _, sink = make()
        outlet.room, outlet.error = 0, error
        sink.write(b"a\nb\n")
        sink.close()
        assert outlet.closed
        assert sink.lost == 2
        assert outlet.waits == (error is None)


def test_its_repr_tells_its_state() -> None:
    outlet, _, sink = make()
    assert repr(sink) == "<Sink fake working 0 B waiting, 0 lines lost>"
    outlet.error = OSError(errno.EIO, "broken")
    sink.write(b"a\n")
    assert repr(sink) == "<Sink fake failing 2 B waiting, 0 lines lost>"


def test_complaints_reach_stderr(capfd: object) -> None:
    complain_on_stderr("bad \ud800 news")
    assert capfd.readouterr().err == "fd-router: bad \\ud800 news\n"  # type: ignore[attr-defined]
    assert os.get_inheritable(2)
