"""Where an answer's body begins: neither with its head nor with comments."""

from __future__ import annotations

import pytest

from fd_router.errors import Retry
from fd_router.http.body_start import MAX_COMMENTS, has_begun, joined
from fd_router.http.heads import ResponseHead
from tests.support.fake_upstream import CHUNKED, OK, Line
from tests.support.rig import STREAM_HEAD, chunk

PLAIN = ResponseHead.of(200, b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n", 9)
EVENTS = ResponseHead.of(200, b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream\r\n", chunked=True)
RAW_EVENTS = ResponseHead.of(200, b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")


@pytest.mark.parametrize("body", [b"", b"5", b"5\r", b"5\r\n", b"5;name=x\r\n", chunk(b": ping\n\n"), chunk(b"\n") * 2])
def test_not_yet(body: bytes) -> None:
    assert not has_begun(EVENTS, body)


LONG = b'data: {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": ['


@pytest.mark.parametrize(
    "body", [b"5\r\ndata:", chunk(b": ping\n\n") + chunk(b"d"), chunk(b'data: {"er') + b"9\r\nror"]
)
def test_a_streams_first_line_tells_only_when_it_is_whole_whether_it_is_an_error(body: bytes) -> None:
    assert not has_begun(EVENTS, body)


@pytest.mark.parametrize(
    "body", [chunk(b"data: 1\n"), chunk(b": ping\n\n") + chunk(LONG), chunk(b": a\ndata: 1\n\n"), chunk(LONG)]
)
def test_begun(body: bytes) -> None:
    assert has_begun(EVENTS, body)


def test_without_chunks() -> None:
    assert not has_begun(RAW_EVENTS, b": pi")
    assert has_begun(RAW_EVENTS, b": ping\n\ndata: 1\n\n")
    assert has_begun(PLAIN, b":")
    assert has_begun(PLAIN, b"\n")
    assert not has_begun(PLAIN, b"")


def test_comments_are_held_back_up_to_a_bound() -> None:
    assert not has_begun(RAW_EVENTS, b": ping\n" * 100)
    assert has_begun(RAW_EVENTS, b":" * (MAX_COMMENTS + 1))


@pytest.mark.parametrize(
    ("body", "whole"),
    [
        (chunk(b"data: {") + chunk(b"}\n\n"), chunk(b"data: {}\n\n")),
        (b"2;a=b\r\nda\r\n" + chunk(b"ta"), chunk(b"data")),
        (chunk(b"a") + chunk(b"b") + b"5\r\nc", chunk(b"ab") + b"5\r\nc"),
        (chunk(b"a") + chunk(b"b") + b"0\r\nx: y\r\n\r\n", chunk(b"ab") + b"0\r\nx: y\r\n\r\n"),
        (chunk(b"a") + b"1", chunk(b"a") + b"1"),
        (b"5\r\nda", b"5\r\nda"),
        (b"0\r\n\r\n", b"0\r\n\r\n"),
    ],
)
def test_chunks_are_joined(body: bytes, whole: bytes) -> None:
    assert joined(body) == whole


class TestConnection:
    def test_the_head_waits_for_the_first_of_the_body(self) -> None:
        line = Line()
        listener = line.send()
        line.receive(CHUNKED)
        line.receive(b"4\r\n")
        assert not listener.heads
        line.receive(b"fi")
        assert (len(listener.heads), listener.body) == (1, b"4\r\nfi")
        line.receive(b"ne\r\n0\r\n\r\n")
        assert (listener.body, listener.ending) == (b"4\r\nfine\r\n0\r\n\r\n", "complete")

    def test_comments_go_on_with_what_follows_them(self) -> None:
        line = Line()
        listener = line.send()
        for piece in (STREAM_HEAD, chunk(b": ping\n\n"), chunk(b": ping\n\n")):
            line.receive(piece)
        assert not listener.heads
        line.receive(chunk(b"data: 1\n\n"))
        assert listener.body == chunk(b": ping\n\n" * 2 + b"data: 1\n\n")

    def test_an_error_is_seen_in_one_piece_however_it_came(self) -> None:
        line = Line()
        listener = line.send()
        line.receive(STREAM_HEAD)
        for piece in (b'data: {"er', b'ror": {}}', b"\r\n", b"\r\n"):
            line.receive(chunk(piece))
        assert listener.body == chunk(b'data: {"error": {}}\r\n') + chunk(b"\r\n")

    @pytest.mark.parametrize("head", [CHUNKED, OK + b"Content-Length: 4\r\n\r\n", OK])
    def test_one_that_dies_behind_its_head_has_not_begun(self, head: bytes) -> None:
        line = Line()
        listener = line.send()
        line.receive(head)
        line.transport.lose(ConnectionResetError())
        assert not listener.heads
        assert listener.ending == ("reset", Retry.ALWAYS, 502)
        assert not listener.stale

    @pytest.mark.parametrize("rest", [CHUNKED + b"0\r\n\r\n", OK + b"Content-Length: 0\r\n\r\n"])
    def test_an_empty_body_releases_it_at_its_end(self, rest: bytes) -> None:
        line = Line()
        listener = line.send()
        line.receive(rest[:-5])
        line.receive(rest[-5:])
        assert (len(listener.heads), listener.ending) == (1, "complete")

    def test_so_does_the_end_of_the_connection(self) -> None:
        line = Line()
        listener = line.send()
        line.receive(OK + b"A: b\r\n\r\n")
        assert not listener.heads
        line.transport.lose()
        assert (len(listener.heads), listener.body, listener.ending) == (1, b"", "complete")

    def test_the_time_limit_is_the_bodys(self) -> None:
        line = Line()
        listener = line.send()
        line.loop.advance(20)
        line.receive(STREAM_HEAD)
        line.receive(chunk(b": ping\n\n"))
        line.loop.advance(11)
        assert listener.ending == ("first_byte_timeout", Retry.NEVER, 504)
