"""An instance's answers: whole, in pieces, with something before or behind them, broken."""

from __future__ import annotations

from itertools import pairwise

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.errors import Retry
from fd_router.http.deadlines import NEVER
from fd_router.http.heads import ResponseHead
from fd_router.http.upstream_connection import MAX_HEAD
from tests.support.fake_upstream import CHUNKED, HEAD, OK, SIZED, Line, exchange


class Taker:
    """One who takes a body, and can't take much."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.bugs: list[Exception] = []

    def on_data(self, data: bytes) -> None:
        self.taken.append(data)
        if len(self.taken) > 1:
            raise ZeroDivisionError

    def on_bug(self, error: Exception) -> None:
        self.bugs.append(error)


def test_who_takes_the_rest_of_a_body_hears_of_its_own_bugs_too() -> None:
    line, listener = exchange(CHUNKED + b"1\r\na\r\n")
    line.connection.deliver_to(taker := Taker())
    line.receive(b"1\r\nb\r\n")
    assert (taker.taken, taker.bugs) == ([b"1\r\nb\r\n"], [])
    line.receive(b"1\r\nc\r\n")
    assert [type(bug) for bug in taker.bugs] == [ZeroDivisionError]
    assert (listener.body, listener.ending) == (b"1\r\na\r\n", None)
    assert line.transport.aborted
    line.receive(b"1\r\nd\r\n")
    assert len(taker.taken) == 2


def test_who_takes_the_rest_of_a_body_has_that_of_one_answer_only() -> None:
    line, first = exchange(CHUNKED + b"1\r\na\r\n")
    line.connection.deliver_to(taker := Taker())
    line.receive(b"0\r\n\r\n")
    assert (taker.taken, first.ending) == ([b"0\r\n\r\n"], "complete")
    second = line.send()
    line.receive(CHUNKED + b"1\r\nb\r\n")
    line.receive(b"0\r\n\r\n")
    assert (second.body, second.ending, len(taker.taken)) == (b"1\r\nb\r\n0\r\n\r\n", "complete", 1)


def test_head_and_body_of_a_request_are_written_together() -> None:
    line = Line()
    line.send()
    assert line.transport.writes == [HEAD + b"body"]


@pytest.mark.parametrize("step", [0, 1, 3, 7])
class TestAnswers:
    def test_sized(self, step: int) -> None:
        line, listener = exchange(SIZED, step)
        assert listener.head == ResponseHead.of(200, b"HTTP/1.1 200 OK\r\nA: b\r\n", 4)
        assert (listener.body, listener.ending) == (b"fine", "complete")
        assert line.owner.events == ["opened", "reusable"]
        assert line.connection.is_idle
        assert line.connection.is_reused
        assert line.connection.deadline == NEVER

    def test_empty(self, step: int) -> None:
        _, listener = exchange(OK + b"Content-Length: 0\r\n\r\n", step)
        assert (listener.head.length, listener.body, listener.ending) == (0, b"", "complete")

    def test_chunked_keeps_its_framing(self, step: int) -> None:
        line, listener = exchange(CHUNKED + b"3\r\nabc\r\n0\r\nX: y\r\n\r\n", step)
        assert listener.head.chunked
        assert listener.head.is_delimited
        assert listener.head.framing == b"transfer-encoding: chunked\r\n"
        assert (listener.body, listener.ending) == (b"3\r\nabc\r\n0\r\nX: y\r\n\r\n", "complete")
        assert line.owner.events == ["opened", "reusable"]

    def test_delimited_by_the_end_of_the_connection(self, step: int) -> None:
        line, listener = exchange(OK + b"\r\nabc", step, end=True)
        assert not listener.head.is_delimited
        assert listener.head.framing == b""
        assert (listener.body, listener.ending) == (b"abc", "complete")
        assert line.owner.events == ["opened", "closed"]

    @pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
    def test_without_a_body(self, step: int, status: bytes) -> None:
        _, listener = exchange(b"HTTP/1.1 %b\r\n\r\n" % status, step)
        assert listener.head.is_delimited
        assert (listener.body, listener.ending) == (b"", "complete")

    def test_304_with_a_length_has_no_body(self, step: int) -> None:
        _, listener = exchange(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", step)
        assert (listener.body, listener.ending) == (b"", "complete")

    @pytest.mark.parametrize(
        "interim",
        [
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
            b"\r\n\r\n",
            b"\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n\r\n",
            b"HTTP/1.0 100 Continue\r\nConnection: keep-alive\r\n\r\n",
        ],
    )
    def test_interim_answers_and_blank_lines_before_it_are_dropped(self, step: int, interim: bytes) -> None:
        _, listener = exchange(interim + SIZED, step)
        assert listener.head.forward == b"HTTP/1.1 200 OK\r\nA: b\r\n"
        assert (listener.body, listener.ending) == (b"fine", "complete")

    @pytest.mark.parametrize(
        "head", [OK + b"Connection: close\r\n", b"HTTP/1.0 200 OK\r\n", OK + b"Connection: Close, x\r\nX: 1\r\n"]
    )
    def test_a_connection_that_is_not_to_be_kept(self, step: int, head: bytes) -> None:
        line, listener = exchange(head + b"Content-Length: 1\r\n\r\na", step)
        assert (listener.head.forward, listener.ending) == (b"HTTP/1.1 200 OK\r\n", "complete")
        assert line.transport.aborted
        assert line.owner.events == ["opened", "closed"]

    def test_http_1_0_with_keep_alive_is_kept(self, step: int) -> None:
        line, _ = exchange(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", step)
        assert line.owner.events == ["opened", "reusable"]

    def test_hop_by_hop_headers_are_removed(self, step: int) -> None:
        head = (
            b"Connection: keep-alive, X-One\r\nX-One: 1\r\nKeep-Alive: 5\r\nUpgrade: h2\r\nX-Request-Id: z\r\nY: 1\r\n"
        )
        _, listener = exchange(OK + head + b"Content-Length: 1\r\n\r\na", step)
        assert listener.head.forward == OK + b"Y: 1\r\n"

    def test_control_characters_of_a_reason_are_removed(self, step: int) -> None:
        _, listener = exchange(b"HTTP/1.1 200 O\x00K\x01\x7f \xc3\xa9\tfine\r\nContent-Length: 0\r\n\r\n", step)
        assert listener.head.forward == b"HTTP/1.1 200 OK \xc3\xa9\tfine\r\n"

    def test_no_reason(self, step: int) -> None:
        _, listener = exchange(b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", step)
        assert listener.head.forward == b"HTTP/1.1 200 \r\n"

    @pytest.mark.parametrize(
        "data",
        [
            b"SSH-2.0-OpenSSH\r\n",
            b"HTTP/1.1 200 OK\n\n",
            OK + b"A: b\nContent-Length: 0\r\n\r\n",
            OK + b"A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
            OK + b"A: b\x01\r\nContent-Length: 0\r\n\r\n",
            OK + b"A : b\r\nContent-Length: 0\r\n\r\n",
            OK + b"Content-Length: 1_0\r\n\r\n",
            OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
            OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            OK + b"Transfer-Encoding: gzip\r\n\r\nabc",
            OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 99 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\nxyz",
            b"HTTP/1.0 100 Continue\r\n\r\n" + SIZED,
            OK + b"A: " + b"a" * MAX_HEAD,
        ],
    )
    def test_what_is_not_http_fails(self, step: int, data: bytes) -> None:
        line, listener = exchange(data, step)
        assert listener.ending == ("protocol", Retry.NEVER, 502)
        assert listener.heads == []
        assert line.transport.aborted
        assert line.owner.events == ["opened", "closed"]

    def test_what_changes_to_another_protocol_says_so(self, step: int) -> None:
        switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\nxyz"
        _, listener = exchange(switching, step)
        assert "another protocol" in listener.detail

    def test_a_broken_chunk_fails_in_mid_answer(self, step: int) -> None:
        line, listener = exchange(CHUNKED + b"1\r\na\r\n", step)
        line.receive(b"xyz\r\n")
        assert listener.ending == ("protocol", Retry.NEVER, 502)

    def test_cut_off_in_the_head(self, step: int) -> None:
        _, listener = exchange(OK + b"A: b", step, end=True)
        assert listener.ending == ("reset", Retry.ALWAYS, 502)

    @pytest.mark.parametrize("data", [SIZED[:-1], CHUNKED + b"3\r\na", CHUNKED + b"3\r\nabc\r\n0\r\n"])
    def test_cut_off_in_the_body(self, step: int, data: bytes) -> None:
        line, listener = exchange(data, step, end=True)
        assert listener.heads
        assert listener.ending == ("cut_off", Retry.NEVER, 502)
        assert not listener.stale
        assert line.owner.events == ["opened", "closed"]

    def test_a_second_answer_is_not_kept_for_the_next_request(self, step: int) -> None:
        line, _ = exchange(SIZED + SIZED, step)
        assert line.transport.aborted
        assert not line.connection.is_idle

    def test_repr(self, step: int) -> None:
        line = Line()
        connection = line.connection
        states = [repr(connection)]
        line.send()
        states.append(repr(connection))
        line.receive(OK, step)
        states.append(repr(connection))
        line.receive(b"Content-Length: 2\r\n\r\na", step)
        states.append(repr(connection))
        line.receive(b"b")
        states.append(repr(connection))
        line.transport.lose()
        states.append(repr(connection))
        found = [state.removeprefix("<UpstreamConnection http://10.0.0.1:8000 ") for state in states]
        assert found == [
            "idle>", "waiting>", "head>", "body>", "idle again>",
            "closed again>",
        ]  # fmt: skip


@given(st.lists(st.integers(0, 200), max_size=6))
def test_interim_answers_in_any_splitting(cuts: list[int]) -> None:
    data = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + SIZED
    line = Line()
    listener = line.send()
    places = sorted({cut % len(data) for cut in cuts} | {0, len(data)})
    for start, end in pairwise(places):
        line.receive(data[start:end])
    assert (listener.body, listener.ending) == (b"fine", "complete")


@pytest.mark.parametrize("garbage", [b"x", SIZED, b"HTTP", b"\x00"])
def test_more_than_the_answer_in_one_read_fails(garbage: bytes) -> None:
    line, listener = exchange(SIZED + garbage)
    assert listener.ending == ("protocol", Retry.NEVER, 502)
    assert listener.heads == []
    assert line.transport.aborted


def test_a_bug_in_the_parsers_callback_is_not_blamed_on_the_instance() -> None:
    line = Line()
    listener = line.send()
    line.connection._reader._headers = None  # type: ignore[assignment]
    line.receive(SIZED)
    assert isinstance(listener.ending, httptools.HttpParserCallbackError)
    assert line.transport.aborted


def test_an_interim_answer_with_a_body_is_a_broken_one() -> None:
    """It is no bug of the router's: the parser takes it for a final one (RFC 9112 section 6.3)."""
    _, listener = exchange(b"HTTP/1.1 199 X\r\nTransfer-Encoding: gzip\r\n\r\nfine")
    assert listener.ending == ("protocol", Retry.NEVER, 502)
