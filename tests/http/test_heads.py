from __future__ import annotations

import uuid

import pytest

from fd_router.http.dechunk import Dechunker
from fd_router.http.heads import (
    LONG_BODY,
    ResponseHead,
    connection_options,
    host_line,
    request_message,
    response_bytes,
    without,
)
from fd_router.http.messages import Request, RequestHead, Response
from fd_router.http.request_ids import RequestIds


@pytest.mark.parametrize(
    ("value", "options"),
    [
        (b"keep-alive", set()),
        (b"Close", set()),
        (b"close, X-A ,x-b", {b"x-a", b"x-b"}),
        (b"Upgrade, HTTP2-Settings", {b"http2-settings"}),
        (b"te, keep-alive", set()),
    ],
)
def test_connection_options(value: bytes, options: set[bytes]) -> None:
    assert connection_options(value) - {b""} == options


def test_without() -> None:
    assert without([(b"A", b"1"), (b"b", b"2")], [b"a"]) == [(b"b", b"2")]


@pytest.mark.parametrize(
    ("head", "delimited", "framing"),
    [
        (ResponseHead.of(200, b""), False, b""),
        (ResponseHead.of(204, b""), True, b""),
        (ResponseHead.of(304, b""), True, b""),
        (ResponseHead.of(200, b"", 0), True, b"content-length: 0\r\n"),
        (ResponseHead.of(200, b"", chunked=True), True, b"transfer-encoding: chunked\r\n"),
    ],
)
def test_framing(head: ResponseHead, delimited: bool, framing: bytes) -> None:
    assert (head.is_delimited, head.framing) == (delimited, framing)


def test_an_answer_without_a_request_id_and_with_an_odd_status() -> None:
    data = response_bytes(Response(299, b"a"), "", now=784111777.9, close=True, keep_alive_1_0=False, head_only=False)
    assert data == (
        b"HTTP/1.1 299 Unknown\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"content-type: application/json\r\ncontent-length: 1\r\nconnection: close\r\n\r\na"
    )


@pytest.mark.parametrize("step", [1, 2, 5, 100])
def test_dechunk(step: int) -> None:
    got: list[bytes] = []
    dechunker = Dechunker(got.append)
    data = b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nX: y\r\n\r\n"
    for start in range(0, len(data), step):
        dechunker.feed(data[start : start + step])
    assert b"".join(got) == b"abc0123456789"


def test_ids_differ_and_are_hexadecimal() -> None:
    ids = RequestIds()
    made = [ids.next() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(len(one) == 32 and int(one, 16) >= 0 for one in made)


@pytest.mark.parametrize("size", [0, 1, LONG_BODY - 1, LONG_BODY, 3 * LONG_BODY])
def test_a_long_body_is_not_copied_behind_its_head(size: int) -> None:
    body = b"x" * size
    message = request_message(
        Request(RequestHead("POST", "/", start=b"POST / HTTP/1.1\r\n"), body), host_line(b"a:1"), body
    )
    if size >= LONG_BODY:
        assert message[1] is body
        message = b"".join(message)  # type: ignore[arg-type]
    assert isinstance(message, bytes)
    assert message.endswith(b"\r\n\r\n" + body)
    assert b"\r\ncontent-length: %d\r\n" % size in message


def test_ids_as_uuids() -> None:
    ids = RequestIds()
    made = [ids.next_uuid4() for _ in range(1000)]
    assert len(set(made)) == 1000
    for text in made:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, uuid.RFC_4122)
