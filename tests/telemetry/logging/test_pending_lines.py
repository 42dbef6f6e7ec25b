from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fd_router.telemetry.logging.pending_lines import PendingLines


def test_within_the_limit_nothing_is_dropped() -> None:
    backlog = PendingLines(8)
    backlog.add(b"abc\ndef\n")
    assert backlog.trim() == 0
    assert backlog.data == b"abc\ndef\n"


def test_the_oldest_lines_go_first() -> None:
    backlog = PendingLines(9)
    backlog.add(b"abc\ndef\nghi\n")
    assert backlog.trim() == 1
    assert backlog.data == b"def\nghi\n"


def test_the_rest_of_a_half_written_line_stays() -> None:
    backlog = PendingLines(6)
    backlog.add(b"abc\ndef\nghi\n")
    backlog.written(2)
    assert repr(backlog) == "<PendingLines 10 B torn>"
    assert backlog.trim() == 1
    assert backlog.data == b"c\nghi\n"


LINES = st.lists(st.binary(max_size=9).map(lambda line: line.replace(b"\n", b"")), max_size=5)


@given(st.lists(st.tuples(LINES, st.integers(0, 40))), st.integers(12, 60))
def test_what_is_written_are_whole_lines_in_order_and_the_rest_is_counted(
    steps: list[tuple[list[bytes], int]], limit: int
) -> None:
    backlog, number, lost, out = PendingLines(limit), 0, 0, b""
    for lines, writable in steps:
        for line in lines:
            number += 1
            backlog.add(b"%d:%b\n" % (number, line))
        count = min(writable, len(backlog))
        out += backlog.data[:count]
        backlog.written(count)
        lost += backlog.trim()
        longest_torn_rest = 13
        assert len(backlog) <= limit + longest_torn_rest
    out += backlog.data
    numbers = [int(line.partition(b":")[0]) for line in out.split(b"\n")[:-1]]
    assert numbers == sorted(set(numbers))
    assert len(numbers) + lost == number
