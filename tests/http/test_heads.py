from __future__ import annotations

import uuid

import pytest

from fd_router.http.dechunk import Dechunker
from fd_router.http.heads import (
    LONG_BODY,
    KnownHead,
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


class TestKnownHead:
    MESSAGE = b"POST / HTTP/1.1\r\nX-Content-Length: 9\r\ncontent-LENGTH: 3\r\nA: b\r\n\r\nabc"

    def test_another_body(self) -> None:
        known = KnownHead.learn(self.MESSAGE, 3)
        assert known is not None
        assert known.body_of(self.MESSAGE) == b"abc"
        assert known.body_of(self.MESSAGE.replace(b": 3\r", b": 12\r") + b"0123456789"[:9]) == b"abc012345678"

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"A: b", b"A: c"),
            (b": 9", b": 8"),
            (b"POST", b"PUT"),
            (b"H: 3", b"H: 03"),
            (b"H: 3", b"H: +3"),
            (b"H: 3", b"H: 3 "),
            (b"H: 3", b"H:  3"),
            (b"H: 3", b"H: 4"),
            (b"H: 3", b"H: 2"),
            (b"H: 3", b"H: "),
            (b"H: 3\r\n", b"H: 3\n"),
            (b"A: b\r\n", b""),
            (b"A: b\r\n", b"A: b\r\nC: d\r\n"),
            (b"abc", b"abcd"),
            (b"abc", b""),
            (b"\r\n\r\nabc", b""),
        ],
    )
    def test_any_difference_is_for_the_parser(self, old: bytes, new: bytes) -> None:
        known = KnownHead.learn(self.MESSAGE, 3)
        assert known is not None
        assert self.MESSAGE.replace(old, new) != self.MESSAGE
        assert known.body_of(self.MESSAGE.replace(old, new)) is None

    @pytest.mark.parametrize(
        "message",
        [MESSAGE + b"x", MESSAGE[:-1], MESSAGE.replace(b": 3", b": 03"), b"GET / HTTP/1.1\r\n\r\n", b"", b"abc"],
    )
    def test_what_is_not_learned(self, message: bytes) -> None:
        assert KnownHead.learn(message, 3) is None


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
