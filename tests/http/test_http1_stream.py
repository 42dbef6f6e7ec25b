"""The stream of one answer on an HTTP/1.x connection: what is framed how, and how it ends."""

from __future__ import annotations

import pytest

from fd_router.errors import HttpError
from fd_router.http.heads import ResponseHead
from fd_router.http.http1_stream import Http10Stream, Http11Stream
from fd_router.http.messages import Request, RequestHead
from tests.support.rig import STREAM_END, chunk

FORWARD = b"HTTP/1.1 200 OK\r\n"
SIZED = ResponseHead.of(200, FORWARD, 4)
CHUNKED = ResponseHead.of(200, FORWARD, chunked=True)
UNTOLD = ResponseHead.of(200, FORWARD)
EVENT = b"data: 1\n\n"


class Connection:
    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.ended: object = None

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def respond_error(self, error: HttpError) -> None:
        self.ended = error

    def complete(self, keep_alive: bool) -> None:
        self.ended = ("complete", keep_alive)

    def cut_off(self, *, delimited: bool) -> None:
        self.ended = ("cut off", delimited)

    def abort(self) -> None:
        self.ended = "aborted"


def make(kind: type[Http11Stream], *, keep_alive: bool = True) -> tuple[Http11Stream, Connection]:
    connection = Connection()
    head = RequestHead("POST", "/v1/completions", keep_alive=keep_alive, is_http_1_0=kind is Http10Stream)
    stream = kind(connection, connection)
    stream.request = Request(head, request_id="me")
    return stream, connection


class TestHttp11:
    @pytest.mark.parametrize(
        ("head", "keep_alive", "lines"),
        [
            (SIZED, True, b"content-length: 4\r\n"),
            (SIZED, False, b"content-length: 4\r\nconnection: close\r\n"),
            (CHUNKED, True, b"transfer-encoding: chunked\r\n"),
            (UNTOLD, True, b"connection: close\r\n"),
        ],
    )
    def test_head_and_body_are_one_write(self, head: ResponseHead, keep_alive: bool, lines: bytes) -> None:
        stream, connection = make(Http11Stream, keep_alive=keep_alive)
        stream.send_head(head, b"body", b"x-a: b\r\n")
        assert connection.writes == [FORWARD + lines + b"x-a: b\r\nx-request-id: me\r\n\r\nbody"]
        stream.end()
        assert connection.ended == ("complete", keep_alive and head is not UNTOLD)

    def test_bodies_go_on_untouched(self) -> None:
        stream, connection = make(Http11Stream)
        stream.send_head(CHUNKED, b"")
        stream.outlet.write(b"5\r\nhal")
        assert connection.writes[1:] == [b"5\r\nhal"]
        assert stream.outlet is connection

    @pytest.mark.parametrize(("head", "delimited"), [(SIZED, True), (CHUNKED, True), (UNTOLD, False)])
    def test_how_it_is_cut_off(self, head: ResponseHead, delimited: bool) -> None:
        stream, connection = make(Http11Stream)
        stream.send_head(head, b"bo")
        stream.reset()
        assert connection.ended == ("cut off", delimited)

    def test_how_it_is_abandoned(self) -> None:
        stream, connection = make(Http11Stream)
        stream.abandon()
        assert connection.ended == "aborted"

    def test_an_event_more_is_a_chunk_and_the_last(self) -> None:
        stream, connection = make(Http11Stream)
        stream.send_head(CHUNKED, chunk(EVENT))
        assert stream.send_event(EVENT, chunk(EVENT))
        assert connection.writes[1:] == [chunk(EVENT) + STREAM_END]

    @pytest.mark.parametrize("last", [b"", EVENT, chunk(b"data: half\n"), chunk(EVENT)[:-1]])
    def test_none_can_follow_half_an_event(self, last: bytes) -> None:
        stream, connection = make(Http11Stream)
        assert not stream.send_event(EVENT, chunk(EVENT))  # nor nothing at all
        stream.send_head(CHUNKED, last)
        assert not stream.send_event(EVENT, last)
        assert len(connection.writes) == 1

    def test_the_last_of_a_drained_connection_says_so_if_it_still_can(self) -> None:
        early, connection = make(Http11Stream)
        early.on_drain()
        early.send_head(SIZED, b"body")
        assert b"connection: close\r\n" in connection.writes[0]
        early.end()
        assert connection.ended == ("complete", False)
        late, connection = make(Http11Stream)
        late.send_head(SIZED, b"body")
        late.on_drain()
        late.end()
        assert connection.ended == ("complete", True)

    def test_an_error_is_the_connections_to_send(self) -> None:
        stream, connection = make(Http11Stream)
        stream.send_error(error := HttpError("no"))
        assert connection.ended is error


class TestHttp10:
    def test_chunks_are_taken_out_and_the_connection_ends_it(self) -> None:
        stream, connection = make(Http10Stream)
        stream.send_head(CHUNKED, chunk(b"one"))
        stream.outlet.write(chunk(b"two")[:4])
        stream.outlet.write(chunk(b"two")[4:] + STREAM_END)
        assert connection.writes[0] == FORWARD + b"x-request-id: me\r\n\r\n"
        assert b"".join(connection.writes[1:]) == b"onetwo"
        stream.end()
        assert connection.ended == ("complete", False)

    @pytest.mark.parametrize("keep_alive", [True, False])
    def test_what_has_a_length_may_keep_the_connection(self, keep_alive: bool) -> None:
        stream, connection = make(Http10Stream, keep_alive=keep_alive)
        stream.send_head(SIZED, b"body")
        said = b"connection: keep-alive\r\n" if keep_alive else b""
        head = FORWARD + b"content-length: 4\r\n" + said + b"x-request-id: me\r\n\r\n"
        assert b"".join(connection.writes) == head + b"body"
        stream.end()
        assert connection.ended == ("complete", keep_alive)

    @pytest.mark.parametrize(("head", "delimited"), [(SIZED, True), (CHUNKED, False), (UNTOLD, False)])
    def test_how_it_is_cut_off(self, head: ResponseHead, delimited: bool) -> None:
        stream, connection = make(Http10Stream)
        stream.send_head(head, b"")
        stream.reset()
        assert connection.ended == ("cut off", delimited)

    def test_an_event_more_is_plain(self) -> None:
        stream, connection = make(Http10Stream)
        stream.send_head(CHUNKED, chunk(EVENT))
        assert stream.send_event(EVENT, chunk(EVENT))
        assert connection.writes[-1] == EVENT
