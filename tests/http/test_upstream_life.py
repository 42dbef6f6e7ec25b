"""An instance's connection over time: deadlines, backpressure, cancelling, being used again."""

from __future__ import annotations

from fd_router.errors import Retry
from fd_router.http.heads import ResponseHead
from tests.support.fake_upstream import CHUNKED, HEAD, OK, SIZED, FakeListener, Line, exchange


class TestNoAnswer:
    def test_reset_on_a_fresh_connection_may_be_tried_elsewhere(self) -> None:
        line = Line()
        listener = line.send()
        line.transport.lose(ConnectionResetError(104, "Connection reset by peer"))
        assert listener.ending == ("reset", Retry.ALWAYS, 502)
        assert listener.detail == "connection reset by peer before an answer"
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

    def test_stall_in_the_body(self) -> None:
        line = Line()
        listener = line.send()
        line.loop.advance(20)
        line.receive(CHUNKED + b"1\r\na\r\n")
        line.loop.advance(9)
        assert listener.ending is None
        line.loop.advance(2)
        assert listener.ending == ("stalled", Retry.NEVER, 504)

    def test_a_head_is_no_first_byte(self) -> None:
        for data in (OK, CHUNKED):
            line = Line()
            listener = line.send()
            line.loop.advance(20)
            line.receive(data)
            line.loop.advance(9)
            assert listener.ending is None
            line.loop.advance(2)
            assert listener.ending == ("first_byte_timeout", Retry.NEVER, 504)

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
        line.receive(CHUNKED + b"1\r\na\r\n")
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

        def on_whole(self, head: ResponseHead, body: bytes) -> None:
            line.connection.cancel()

    for _ in range(2):
        leaving = Leaving()
        line.connection.send(leaving, HEAD)
        line.loop.run_soon()
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
