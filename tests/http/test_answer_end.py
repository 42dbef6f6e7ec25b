"""What comes behind an answer, however it is cut into reads, isn't passed on, and its connection isn't used again."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest

from fd_router.http.answer_end import last_bytes, strays_behind_chunks
from tests.support.fake_upstream import CHUNKED, OK, SIZED, FakeListener, Line

ANSWERS = {
    "sized": (SIZED, b"fine"),
    "sized, nothing": (OK + b"Content-Length: 0\r\n\r\n", b""),
    "sized, line ends of its own": (OK + b"Content-Length: 6\r\n\r\na\r\n\r\n\n", b"a\r\n\r\n\n"),
    "chunks": (CHUNKED + b"1\r\na\r\n0\r\n\r\n", b"1\r\na\r\n0\r\n\r\n"),
    "chunks of line ends": (CHUNKED + b"3\r\n\n\r\n\r\n00\r\n\r\n", b"3\r\n\n\r\n\r\n00\r\n\r\n"),
    "chunks with a trailer": (CHUNKED + b"0\r\nA: b\r\n\r\n", b"0\r\nA: b\r\n\r\n"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\n\r\n", b""),
}
STRAYS = [b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\r\n"]


def receive(line: Line, pieces: list[bytes]) -> FakeListener:
    listener = line.send()
    for piece in pieces:
        line.receive(piece)
    line.loop.run_soon()
    return listener


def cuts(data: bytes, behind: int) -> list[list[bytes]]:
    """Cut ``data`` in all ways into up to three reads, the last of which has the answer's end and what is behind."""
    places = range(1, len(data) - behind)
    ways = [(), *combinations(places, 1), *combinations(places[-8:], 2)]
    return [[data[a:b] for a, b in pairwise((0, *way, len(data)))] for way in ways]


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("strays", STRAYS)
def test_line_ends_behind_an_answer_go_nowhere(name: str, strays: bytes) -> None:
    data, body = ANSWERS[name]
    for pieces in cuts(data + strays, len(strays)):
        line = Line()
        listener = receive(line, pieces)
        assert (listener.body, listener.ending) == (body, "complete"), pieces
        assert line.transport.aborted


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_without_them_is_whole_and_its_connection_kept(name: str) -> None:
    data, body = ANSWERS[name]
    for pieces in cuts(data, 0):
        line = Line()
        listener = receive(line, pieces)
        assert (listener.body, listener.ending) == (body, "complete"), pieces
        assert line.owner.events[-1] == "reusable"


def test_a_known_head_hides_nothing() -> None:
    line = Line()
    assert receive(line, [SIZED]).ending == "complete"
    listener = receive(line, [SIZED + b"\r\n"])
    assert (listener.body, listener.ending) == (b"fine", "complete")
    assert line.transport.aborted


def test_the_end_of_chunks_in_reads_of_one_byte() -> None:
    data, before = b"5\r\n\r\n\r\n\n\r\n0;x=\r\n\r\n", b""
    for at in range(len(data) - 1):
        before = last_bytes(before, data[at : at + 1])
    assert strays_behind_chunks(before, data[-1:]) == 0
    assert strays_behind_chunks(before, data[-1:] + b"\n\r") == 2
