"""An instance's connection: answers in pieces of every kind, broken ones, late ones, and what becomes of it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.errors import Retry, UpstreamError
from fd_router.proxy.deadlines import NEVER, DeadlineSweeper
from fd_router.proxy.heads import KnownHead, ResponseHead
from fd_router.proxy.outbox import Outbox
from fd_router.proxy.upstream import MAX_HEAD, UpstreamConnection, UpstreamSettings
from tests.support.fake_transport import FakeLoop, FakeTransport

HEAD = b"POST /a HTTP/1.1\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
SIZED = OK + b"A: b\r\nContent-Length: 4\r\n\r\nfine"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class PlainConnection(UpstreamConnection):
    """Parses every head, also one that it has just seen."""

    __slots__ = ()

    def _receive_again(self, known: KnownHead, data: bytes, listener: object) -> bool:
        return False


class FakeListener:
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heads: list[ResponseHead] = []
        self.body = b""
        self.ending: object = None
        self.stale = False

    def on_head(self, head: ResponseHead, body: bytes) -> None:
        assert not self.heads
        assert self.ending is None
        self.heads.append(head)
        self.body += body

    def on_data(self, data: bytes) -> None:
        assert self.heads
        assert self.ending is None
        self.body += data

    def on_complete(self) -> None:
        assert self.ending is None
        self.ending = "complete"

    def on_failed(self, error: UpstreamError, *, stale: bool) -> None:
        assert self.ending is None
        self.ending = (error.reason, error.retry, error.status)
        self.detail = error.detail
        self.stale = stale

    @property
    def head(self) -> ResponseHead:
        return self.heads[0]


class FakeOwner:
    url = "http://10.0.0.1:8000"

    def __init__(self) -> None:
        self.events: list[str] = []

    def on_opened(self, connection: UpstreamConnection) -> None:
        self.events.append("opened")

    def on_reusable(self, connection: UpstreamConnection) -> None:
        assert connection.is_idle
        self.events.append("reusable")

    def on_closed(self, connection: UpstreamConnection) -> None:
        self.events.append("closed")


class Line:
    """One connection with everything around it."""

    def __init__(self, kind: type[UpstreamConnection] = UpstreamConnection) -> None:
        self.loop = FakeLoop()
        self.owner = FakeOwner()
        self.sweeper = DeadlineSweeper(self.loop, interval=0.8)  # type: ignore[arg-type]
        self.sweeper.start()
        settings = UpstreamSettings(Outbox(self.loop), self.sweeper, 30.0, 10.0)  # type: ignore[arg-type]
        self.connection = kind(self.owner, settings)
        self.transport = FakeTransport(self.loop)
        self.transport.connect(self.connection)

    def send(self) -> FakeListener:
        listener = FakeListener()
        self.connection.send(listener, HEAD, b"body")
        self.loop.run_soon()
        return listener

    def receive(self, data: bytes, step: int = 0) -> None:
        self.transport.receive(data, step)


def exchange(data: bytes, step: int = 0, *, end: bool = False) -> tuple[Line, FakeListener]:
    """Send a request, receive ``data``, and perhaps lose the connection."""
    line = Line()
    listener = line.send()
    line.receive(data, step)
    if end:
        line.transport.lose()
    line.loop.run_soon()
    return line, listener


def test_head_and_body_of_a_request_are_written_together() -> None:
    line = Line()
    line.send()
    assert line.transport.writes == [HEAD + b"body"]


@pytest.mark.parametrize("step", [0, 1, 3, 7])
class TestAnswers:
    def test_sized(self, step: int) -> None:
        line, listener = exchange(SIZED, step)
        assert listener.head == ResponseHead(200, b"HTTP/1.1 200 OK\r\nA: b\r\n", 4, False, True)
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
        head = b"Connection: keep-alive, X-One\r\nX-One: 1\r\nKeep-Alive: 5\r\nUpgrade: h2\r\nX-Request-Id: z\r\nY: 1\r\n"
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

    def test_a_broken_chunk_fails_in_mid_answer(self, step: int) -> None:
        line, listener = exchange(CHUNKED + b"1\r\na\r\n", step)
        line.receive(b"xyz\r\n")
        assert listener.ending == ("protocol", Retry.NEVER, 502)

    def test_cut_off_in_the_head(self, step: int) -> None:
        _, listener = exchange(OK + b"A: b", step, end=True)
        assert listener.ending == ("cut_off", Retry.NEVER, 502)

    @pytest.mark.parametrize("data", [SIZED[:-1], CHUNKED, CHUNKED + b"3\r\na", CHUNKED + b"3\r\nabc\r\n0\r\n"])
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
            "idle served=0>", "waiting served=0>", "head served=0>", "body served=0>", "idle served=1>", "closed served=1>",
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


class TestNoAnswer:
    def test_reset_on_a_fresh_connection_may_be_tried_elsewhere(self) -> None:
        line = Line()
        listener = line.send()
        line.transport.lose(ConnectionResetError("reset by peer"))
        assert listener.ending == ("reset", Retry.ALWAYS, 502)
        assert listener.detail == "reset by peer before an answer"
        assert not listener.stale

    def test_reset_on_a_kept_connection_is_stale(self) -> None:
        line, _ = exchange(SIZED)
        listener = line.send()
        line.transport.lose()
        assert listener.ending == ("reset", Retry.ALWAYS, 502)
        assert listener.stale

    def test_reset_after_an_interim_answer_is_before_the_answer(self) -> None:
        _, listener = exchange(b"HTTP/1.1 100 Continue\r\n\r\n", end=True)
        assert listener.ending == ("reset", Retry.ALWAYS, 502)

    def test_a_connection_lost_before_the_request_was_sent(self) -> None:
        line = Line()
        line.transport.lose()
        assert line.send().ending == ("reset", Retry.ALWAYS, 502)


class TestDeadlines:
    def test_first_byte(self) -> None:
        line = Line()
        listener = line.send()
        line.loop.advance(29)
        assert listener.ending is None
        line.loop.advance(2)
        assert listener.ending == ("first_byte_timeout", Retry.NEVER, 504)
        assert line.transport.aborted

    def test_an_interim_answer_changes_nothing(self) -> None:
        line = Line()
        listener = line.send()
        line.receive(b"HTTP/1.1 102 Processing\r\n\r\n")
        line.loop.advance(29)
        assert listener.ending is None
        line.loop.advance(2)
        assert listener.ending == ("first_byte_timeout", Retry.NEVER, 504)

    def test_stall_in_the_head_and_in_the_body(self) -> None:
        for data in (OK, CHUNKED + b"1\r\na\r\n"):
            line = Line()
            listener = line.send()
            line.loop.advance(20)
            line.receive(data)
            line.loop.advance(9)
            assert listener.ending is None
            line.loop.advance(2)
            assert listener.ending == ("stalled", Retry.NEVER, 504)

    def test_every_byte_puts_it_off(self) -> None:
        line = Line()
        listener = line.send()
        line.receive(CHUNKED)
        for _ in range(10):
            line.loop.advance(8)
            line.receive(b"1\r\na\r\n")
        assert listener.ending is None

    def test_a_client_that_takes_nothing(self) -> None:
        line = Line()
        listener = line.send()
        line.receive(CHUNKED)
        line.connection.pause()
        line.loop.advance(12)
        assert listener.ending == ("stalled", Retry.NEVER, 502)
        assert "client" in listener.detail

    def test_going_on_gives_the_instance_its_time_again(self) -> None:
        line = Line()
        listener = line.send()
        line.receive(CHUNKED)
        line.connection.pause()
        line.loop.advance(8)
        line.connection.resume()
        line.loop.advance(8)
        assert listener.ending is None

    def test_idle(self) -> None:
        line, _ = exchange(SIZED)
        line.connection.deadline = line.loop.now + 4
        line.loop.advance(5)
        assert line.transport.aborted
        assert line.owner.events[-1] == "closed"
        assert len(line.sweeper) == 0


class TestFlow:
    def test_pause_and_resume_are_said_once(self) -> None:
        line = Line()
        line.connection.pause()
        line.connection.pause()
        assert line.transport.paused
        line.connection.resume()
        line.connection.resume()
        assert not line.transport.paused

    def test_a_closed_connection_needs_neither(self) -> None:
        line = Line()
        line.transport.lose()
        line.connection.pause()
        line.connection.resume()
        line.connection.close()
        assert not line.connection.is_idle

    def test_a_complete_answer_ends_the_pause(self) -> None:
        line = Line()
        line.send()
        line.connection.pause()
        line.receive(SIZED)
        assert not line.transport.paused


def test_cancel_closes_and_tells_nobody() -> None:
    line = Line()
    listener = line.send()
    line.receive(CHUNKED)
    line.connection.cancel()
    line.loop.run_soon()
    assert line.transport.aborted
    assert listener.ending is None
    assert line.owner.events == ["opened", "closed"]


def test_a_listener_may_cancel_while_it_is_told() -> None:
    line = Line()

    class Leaving(FakeListener):
        def on_head(self, head: ResponseHead, body: bytes) -> None:
            line.connection.cancel()

    for _ in range(2):
        leaving = Leaving()
        line.connection.send(leaving, HEAD, b"")
        line.receive(SIZED)
        assert leaving.ending is None
        line = Line()
        line.send()
        line.receive(SIZED)  # the head is known now


def test_data_on_an_idle_connection_closes_it() -> None:
    line, listener = exchange(SIZED)
    line.receive(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert line.transport.aborted
    assert not line.connection.is_idle
    assert listener.ending == "complete"


def test_many_answers_on_one_connection() -> None:
    line = Line()
    for body in (b"", b"a", b"0123456789", b"a" * 100_000):
        for data in (OK + b"Content-Length: %d\r\n\r\n%b" % (len(body), body), CHUNKED + b"0\r\n\r\n"):
            for step in (0, 0, 1000):
                listener = line.send()
                line.receive(data, step)
                assert listener.ending == "complete"
                assert listener.body == data.partition(b"\r\n\r\n")[2]
    assert line.owner.events.count("reusable") == 24


def test_a_bug_in_the_parsers_callback_is_not_blamed_on_the_instance() -> None:
    line = Line()
    line.send()
    line.connection._headers = None  # type: ignore[assignment]
    with pytest.raises(Exception, match="callback"):
        line.receive(SIZED)


# The known head

HEADS = [
    OK + b"Content-Length: %b\r\n\r\n",
    OK + b"A: b\r\ncontent-length: %b\r\nC: d\r\n\r\n",
    OK + b"X-Length: 3\r\nContent-Length: %b\r\nX-Content-Length: 3\r\n\r\n",
    OK + b"X-Content-Length: %b\r\n\r\n",
    OK + b"Content-Length: %b\r\nContent-Length: 3\r\n\r\n",
    OK + b"Content-Length: %b\r\nConnection: close\r\n\r\n",
    OK + b"Content-Length: %b\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Length: %b\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Length: %b\r\nConnection: keep-alive\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: %b\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nContent-Length: %b\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\nContent-Length: %b\r\n\r\n",
    b"\r\nHTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n",
    OK + b"A: %b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    OK + b"A: %b\r\n\r\n",
]
LENGTHS = [b"%d", b"%d", b"%d", b"+%d", b"0%d", b" %d", b"%d ", b"%d0", b"1_%d", b"-%d", b"%d\r\nA: b", b"%d, %d"]
BODIES = [b"", b"a", b"abc", b"0123456789", b"0\r\n\r\n", SIZED]


def _message(head: bytes, length: bytes, body: bytes) -> bytes:
    value = length.replace(b"%d", b"%d" % len(body))
    return head.replace(b"%b", value) + body


messages = st.builds(_message, st.sampled_from(HEADS), st.sampled_from(LENGTHS), st.sampled_from(BODIES))
runs = st.builds(lambda message, times: [message] * times, messages, st.integers(1, 3))
sequences = st.lists(runs, min_size=1, max_size=3).map(lambda lists: [item for items in lists for item in items])


def conversation(kind: type[UpstreamConnection], answers: list[bytes], step: int) -> list[object]:
    """Ask once for each answer, and return all that was told."""
    line = Line(kind)
    told: list[object] = []
    for data in answers:
        if not line.connection.is_idle:
            break
        listener = line.send()
        line.receive(data, step)
        line.loop.run_soon()
        told += [[(x.status, x.forward, x.framing, x.is_delimited) for x in listener.heads], listener.body, listener.ending]
    line.transport.lose()
    return [*told, line.owner.events, line.transport.aborted, line.connection._served]


@given(sequences, st.sampled_from([0, 0, 1, 17]))
def test_a_known_head_means_what_the_parser_says(answers: list[bytes], step: int) -> None:
    assert conversation(UpstreamConnection, answers, step) == conversation(PlainConnection, answers, step)


def test_the_second_of_two_equal_heads_is_not_parsed() -> None:
    line, first = exchange(SIZED)
    line.connection._parser = None
    second = line.send()
    line.receive(SIZED.replace(b"4\r\n\r\nfine", b"10\r\n\r\n0123456789"))
    assert (second.body, second.ending, second.head.length) == (b"0123456789", "complete", 10)
    assert second.head.forward == first.head.forward
