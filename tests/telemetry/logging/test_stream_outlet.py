from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fd_router.telemetry.logging.sink import Sink
from fd_router.telemetry.logging.stream_outlet import StreamOutlet

LINE = b"x" * 99 + b"\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        with suppress(OSError):
            os.close(fd)


def test_a_pipe_whose_reader_has_stopped_does_not_stop_the_writer(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sink = Sink(StreamOutlet(writer, "stdout"))
    for _ in range(10):
        sink.write(LINE * 1000)  # 1 MB: far more than a pipe holds
    assert sink.has_backlog
    received = b""
    while len(received) < 1_000_000:
        received += os.read(reader, 65536)
        sink.write(b"")
    assert received == LINE * 10_000
    assert not sink.has_backlog
    assert sink.lost == 0


def test_close_waits_for_a_reader_that_is_only_slow(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sink = Sink(StreamOutlet(writer, "stdout"))
    sink.write(LINE * 3000)
    received: list[bytes] = []

    def read_all() -> None:
        while chunk := os.read(reader, 65536):
            received.append(chunk)

    thread = threading.Thread(target=read_all)
    thread.start()
    sink.close(patience_secs=20)
    os.close(writer)  # the outlet leaves it open: it isn't its own
    thread.join(20)
    assert b"".join(received) == LINE * 3000


def test_a_reader_that_left_is_a_fault_not_an_exception(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    complaints: list[str] = []
    sink = Sink(StreamOutlet(writer, "stdout"), complain=complaints.append)
    sink.write(LINE)
    assert len(complaints) == 1
    assert sink.has_backlog


def test_a_non_blocking_pipe_is_slow_not_broken(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    os.set_blocking(writer, False)
    complaints: list[str] = []
    sink = Sink(StreamOutlet(writer, "stdout"), complain=complaints.append)
    sink.write(LINE * 3000)
    assert sink.has_backlog
    assert complaints == []


def test_a_file_takes_everything_at_once(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        outlet = StreamOutlet(file.fileno(), "stdout")
        assert outlet.put(bytearray(LINE * 1000)) == 100_000
        assert outlet.wait(0)
