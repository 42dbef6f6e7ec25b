"""A client's connection: order, errors, time limits, closing. The exchanges have a file of their own."""

from __future__ import annotations

import asyncio
import json
import re

from fd_router.errors import BadRequestError
from fd_router.http.messages import Request, Response, json_response
from fd_router.http.request_reader import MAX_PIPELINED
from fd_router.http.server_context import MAX_CONTROL_BODY
from tests.support.fake_transport import FakeTransport
from tests.support.rig import PATH, Rig, answer, post


async def _hello(request: Request) -> Response:
    return Response(200, b"hello " + request.head.query.encode(), "text/plain")


async def _echo(request: Request) -> Response:
    return json_response(201, len(request.body), (("x-more", "1"),))


async def _slow(request: Request) -> Response:
    await asyncio.sleep(0)
    await asyncio.Event().wait()
    raise AssertionError


async def _unwilling(request: Request) -> Response:
    raise BadRequestError("I'd rather not", code="unwilling")


async def _buggy(request: Request) -> Response:
    raise ValueError("a bug")


ROUTES = {
    "/hello": {"GET": _hello},
    "/echo": {"GET": _hello, "POST": _echo},
    "/slow": {"GET": _slow},
    "/unwilling": {"GET": _unwilling},
    "/buggy": {"GET": _buggy},
}


def get(path: str, more: str = "", method: str = "GET", version: str = "1.1") -> bytes:
    return f"{method} {path} HTTP/{version}\r\nHost: x\r\n{more}\r\n".encode()


async def talk(rig: Rig, data: bytes, step: int = 0) -> tuple[FakeTransport, bytes]:
    client = rig.client()
    client.receive(data, step)
    await rig.settle()
    return client, client.take()


def statuses(data: bytes) -> list[int]:
    return [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]]


def message(data: bytes) -> str:
    text: str = json.loads(data.partition(b"\r\n\r\n")[2])["error"]["message"]
    return text


class TestControl:
    async def test_an_answer(self) -> None:
        rig = Rig(routes=ROUTES)
        client, data = await talk(rig, get("/hello?you", "X-Request-Id: me\r\n"))
        start, rest = re.split(rb"date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", data)
        assert start == b"HTTP/1.1 200 OK\r\n"
        assert rest == b"content-type: text/plain\r\ncontent-length: 9\r\nx-request-id: me\r\n\r\nhello you"
        assert not client.is_closing()
        assert "[GET] /hello HTTP/1.1 200 0s 10.9.9.1 bytes=9" in rig.log_lines[-1]

    async def test_head_has_no_body(self) -> None:
        _, data = await talk(Rig(routes=ROUTES), get("/hello", method="HEAD"))
        assert data.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"content-length: 6\r\n" in data
        assert data.endswith(b"\r\n\r\n")

    async def test_headers_of_an_answer(self) -> None:
        _, data = await talk(Rig(routes=ROUTES), post(b"abc", "/echo"))
        assert b"x-more: 1\r\n" in data
        assert data.endswith(b"\r\n\r\n3")

    async def test_nothing_there(self) -> None:
        rig = Rig(routes=ROUTES)
        client, data = await talk(rig, get("/nowhere"))
        assert statuses(data) == [404]
        assert message(data) == "There is nothing at /nowhere"
        assert not client.is_closing()
        assert 'endpoint="unmatched"' in rig.telemetry.metrics.render().decode()

    async def test_another_method(self) -> None:
        for method, path, allow in (
            ("DELETE", "/echo", b"GET, HEAD, POST"),
            ("POST", "/hello", b"GET, HEAD"),
            ("GET", PATH, b"POST"),
            ("HEAD", PATH, b"POST"),
        ):
            _, data = await talk(Rig(routes=ROUTES), get(path, method=method))
            assert statuses(data) == [405]
            assert b"allow: %b\r\n" % allow in data
            assert data.endswith(b"\r\n\r\n") is (method == "HEAD")

    async def test_errors_of_handlers(self) -> None:
        rig = Rig(routes=ROUTES)
        _, data = await talk(rig, get("/unwilling"))
        assert json.loads(data.partition(b"\r\n\r\n")[2]) == {
            "error": {"message": "I'd rather not", "type": "invalid_request_error", "param": None, "code": "unwilling"}
        }
        client, data = await talk(rig, get("/buggy"))
        assert statuses(data) == [500]
        assert "a bug" not in message(data)
        assert not client.is_closing()
        assert any("GET /buggy failed in the router: ValueError: a bug" in line for line in rig.log_lines)

    async def test_a_client_that_leaves_ends_the_handler(self) -> None:
        rig = Rig(routes=ROUTES)
        client, data = await talk(rig, get("/slow"))
        assert data == b""
        tasks = len(asyncio.all_tasks())
        client.lose()
        await rig.settle()
        assert len(asyncio.all_tasks()) == tasks - 1
        assert "499" in rig.log_lines[-1]
        assert "outcome=client_gone" in rig.log_lines[-1]
        assert not rig.state.connections

    async def test_a_slow_client_of_a_handler(self) -> None:
        rig = Rig(routes=ROUTES)
        client, _ = await talk(rig, get("/slow"))
        client.protocol.pause_writing()  # type: ignore[union-attr]
        client.protocol.resume_writing()  # type: ignore[union-attr]
        assert not client.is_closing()

    async def test_bodies_for_the_router_itself_have_a_limit_of_their_own(self) -> None:
        head = f"Content-Length: {MAX_CONTROL_BODY + 1}\r\n"
        assert statuses((await talk(Rig(routes=ROUTES), get("/echo", head, "POST")))[1]) == [413]
        assert statuses((await talk(Rig(routes=ROUTES), get(PATH, head, "POST")))[1]) == []

    async def test_a_transport_without_a_peer(self) -> None:
        rig = Rig(routes=ROUTES)
        client = rig.client()
        client.peer = None
        client.connect(client.protocol)  # type: ignore[arg-type]
        client.receive(get("/hello"))
        await rig.settle()
        assert statuses(client.take()) == [200]


class TestOrder:
    async def test_pipelined_requests_are_answered_in_order(self) -> None:
        for step in (0, 1, 10):
            rig = Rig(routes=ROUTES)
            client = rig.client()
            client.receive(get("/hello?1") + post() + get("/nowhere") + get("/hello?2"), step)
            await rig.settle()
            (instance,) = rig.backend.opened
            assert statuses(client.written) == [200]
            instance.receive(answer(b"fine"))
            await rig.settle()
            assert statuses(client.written) == [200, 200, 404, 200]
            assert client.written.endswith(b"hello 2")

    async def test_an_error_comes_after_the_answers_before_it(self) -> None:
        rig = Rig(routes=ROUTES)
        client = rig.client()
        client.receive(post() + get("/hello") + b"nonsense\r\n\r\n")
        await rig.settle()
        assert client.written == b""
        rig.backend.opened[0].receive(answer(b"fine"))
        await rig.settle()
        assert statuses(client.written) == [200, 200, 400]
        assert client.eof
        assert b"connection: close" in client.written

    async def test_too_many_in_line_stop_the_reading(self) -> None:
        rig = Rig(routes=ROUTES)
        client = rig.client()
        client.receive(post() + get("/hello") * MAX_PIPELINED)
        assert not client.paused
        client.receive(get("/hello"))
        assert client.paused
        await rig.settle()
        rig.backend.opened[0].receive(answer(b"fine"))
        for _ in range(10):
            await rig.settle()
        assert statuses(client.written) == [200] * (MAX_PIPELINED + 2)
        assert not client.paused

    async def test_many_at_once_need_no_stack(self) -> None:
        _, data = await talk(Rig(routes=ROUTES), get("/nowhere") * 3000)
        assert statuses(data) == [404] * 3000

    async def test_writes_of_one_turn_keep_their_order(self) -> None:
        rig = Rig(routes=ROUTES)
        client = rig.client()
        client.receive(get("/1") + get("/2"))
        assert client.writes == []
        await asyncio.sleep(0)
        assert [b"at /1" in write for write in client.writes] == [True, False]


class TestKeepAlive:
    async def test_close_is_honoured(self) -> None:
        client, data = await talk(Rig(routes=ROUTES), get("/hello", "Connection: close\r\n"))
        assert b"connection: close\r\n" in data
        assert client.closed

    async def test_http_1_0(self) -> None:
        client, data = await talk(Rig(routes=ROUTES), get("/hello", version="1.0"))
        assert b"connection: close\r\n" in data
        assert client.closed
        client, data = await talk(Rig(routes=ROUTES), get("/hello", "Connection: keep-alive\r\n", version="1.0"))
        assert b"connection: keep-alive\r\n" in data
        assert not client.is_closing()

    async def test_an_idle_connection_is_closed(self) -> None:
        rig = Rig(routes=ROUTES, client_idle_timeout_secs=10)
        new = rig.client()
        used, _ = await talk(rig, get("/hello"))
        await rig.pass_time(9)
        assert not new.is_closing()
        used.receive(get("/hello"))
        await rig.settle()
        await rig.pass_time(5)
        assert new.is_closing()
        assert not used.is_closing()
        await rig.pass_time(6)
        assert used.is_closing()
        assert len(rig.sweeper) == 0


class TestExpect:
    ASKING = "Expect: 100-continue\r\n"

    async def test_leave_is_given_at_once_when_nothing_is_in_the_way(self) -> None:
        rig = Rig()
        client = rig.client()
        data = post(headers=self.ASKING)
        client.receive(data[:-19])
        await rig.settle()
        assert client.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.receive(data[-19:])
        await rig.settle()
        rig.backend.opened[0].receive(answer())
        await rig.settle()
        assert statuses(client.take()) == [200]

    async def test_leave_is_given_when_the_answers_before_are_sent(self) -> None:
        rig = Rig()
        client = rig.client()
        client.receive(post() + post(headers=self.ASKING)[:-19])
        await rig.settle()
        assert client.take() == b""
        rig.backend.opened[0].receive(answer())
        await rig.settle()
        assert statuses(client.take()) == [200, 100]

    async def test_a_body_that_came_anyway_needs_no_leave(self) -> None:
        rig = Rig()
        client = rig.client()
        client.receive(post(headers=self.ASKING))
        await rig.settle()
        assert client.take() == b""

    async def test_a_body_too_large_gets_no_leave(self) -> None:
        _, data = await talk(Rig(max_body_mb=1), get(PATH, self.ASKING + "Content-Length: 9999999\r\n", "POST"))
        assert statuses(data) == [413]


async def test_repr_tells_the_state() -> None:
    rig = Rig()
    client = rig.client()
    assert repr(client.protocol) == "<ServerConnection 10.9.9.1 reading <RequestReader idle ready=0>>"
    instance = await rig.ask(client)
    client.receive(b"GET")
    assert repr(client.protocol) == "<ServerConnection 10.9.9.1 answering <RequestReader head ready=0>>"
    instance.receive(answer())
    client.receive(b"\x00")
    assert repr(client.protocol) == "<ServerConnection 10.9.9.1 lingering <RequestReader refused ready=0>>"
