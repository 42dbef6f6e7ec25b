"""Requests that are refused before they are whole: what the log and the metrics tell of them, and the answer."""

from __future__ import annotations

import pytest

from tests.support.rig import PATH, Rig

HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n".encode()


async def refused(data: bytes) -> tuple[Rig, bytes]:
    rig = Rig()
    client = rig.client()
    client.receive(data)
    await rig.settle()
    return rig, client.take()


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        (b"Content-Length: 99999999999\r\n\r\n", 413),
        (b"Content-Length: 1\r\nExpect: miracles\r\n\r\n", 417),
        (b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
)
async def test_a_refused_request_is_logged_and_counted_under_its_own_name(rest: bytes, status: int) -> None:
    rig, answer = await refused(HEAD + rest)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert f"logger.go:79: [POST] {PATH} HTTP/1.1 {status} " in rig.log_lines[-1]
    wanted = f'http_requests_total{{endpoint="{PATH}",method="POST",status_code="{status}"}} 1.0'
    assert wanted in rig.telemetry.metrics.render().decode()


async def test_a_late_body_is_logged_under_the_requests_name_and_with_its_time() -> None:
    rig = Rig(client_body_timeout_secs=5)
    client = rig.client()
    client.receive(HEAD + b"Content-Length: 10\r\n\r\n{")
    await rig.pass_time(6)
    assert client.take().startswith(b"HTTP/1.1 408 ")
    assert f"[POST] {PATH} HTTP/1.1 408 5s 10.9.9.1" in rig.log_lines[-1]


async def test_an_unreadable_head_has_no_name() -> None:
    rig, answer = await refused(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert "logger.go:79: [-] - HTTP/1.1 400 " in rig.log_lines[-1]


async def test_a_head_request_that_is_refused_gets_no_body() -> None:
    _, answer = await refused(b"HEAD /health HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 417 ")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("rest", "begin"),
    [
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"Invalid request body: "),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", b"Invalid HTTP request: "),
        (b"A : b\r\n\r\n", b"Invalid HTTP request: "),
    ],
)
async def test_the_message_tells_whether_head_or_body_cant_be_read(rest: bytes, begin: bytes) -> None:
    assert b'{"error":{"message":"' + begin in (await refused(HEAD + rest))[1]
