from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping

import pytest

from fd_router.errors import UpstreamError
from fd_router.http.answer_stream import HIGH_WATER, AnswerStream
from fd_router.http.client import HttpClient, Origin
from fd_router.http.client_request import ClientRequest, request_bytes
from tests.support.fake_transport import FakeTransport
from tests.support.no_collector import leaves_nothing
from tests.support.rig import STREAM_END, STREAM_HEAD, Backend, answer, chunk

ORIGIN = Origin("10.0.0.1", 8000)


class Heard:
    """Notes what a listener is told."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.body = b""
        self.ended: list[str] = []

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        self.status, self.headers = status, headers

    def on_data(self, content: bytes) -> None:
        self.body += content

    def on_complete(self) -> None:
        self.ended.append("complete")

    def on_failed(self, error: UpstreamError) -> None:
        self.ended.append(error.reason)


@pytest.fixture
async def backend() -> Iterator[Backend]:
    loop = asyncio.get_running_loop()
    backend = Backend(loop)
    loop.create_connection = backend.create_connection  # type: ignore[method-assign,assignment]
    return backend


async def settle() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


async def sent(backend: Backend) -> FakeTransport:
    """Return the connection over which a request has just gone out."""
    await settle()
    return next(each for each in backend.live if each.writes)


async def test_a_request_and_its_whole_answer(backend: Backend) -> None:
    client = HttpClient()
    task = asyncio.ensure_future(client.fetch(ORIGIN, "POST", "/x?a=1", b"{}", headers={"Authorization": "Bearer k"}))
    server = await sent(backend)
    assert server.take() == (
        b"POST /x?a=1 HTTP/1.1\r\nhost: 10.0.0.1:8000\r\naccept: */*\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer k\r\ncontent-length: 2\r\n\r\n{}"
    )
    server.receive(answer(b"fine", "201 Created", "X-Served-By: a: b\r\nConnection: x-hop\r\nX-Hop: 1\r\n"))
    whole = await task
    assert (whole.status, whole.headers, whole.body) == (201, {"x-served-by": "a: b"}, b"fine")


async def test_headers_of_ones_own_win_over_the_usual_ones() -> None:
    request = request_bytes("POST", "/x", b"a:1", b"x", {"Content-Type": "text/plain"})
    assert request.count(b"content-type") == 1
    assert b"content-type: text/plain\r\n" in request


async def test_a_kept_connection_is_written_to_at_once(backend: Backend) -> None:
    """A time to first token that is measured begins when the request is sent, not when the loop comes round."""
    client = HttpClient()
    client.send(ORIGIN, b"one", Heard())
    server = await sent(backend)
    server.receive(answer())
    server.take()
    heard = Heard()
    client.send(ORIGIN, b"two", heard)
    assert server.take() == b"two"
    server.receive(STREAM_HEAD + chunk(b"a")[:-3])
    server.receive(b"a\r\n" + chunk(b"b"))
    assert (heard.status, heard.body, heard.ended) == (200, b"ab", [])
    server.receive(STREAM_END)
    assert heard.ended == ["complete"]


async def test_nothing_is_kept_where_nothing_shall_be(backend: Backend) -> None:
    client = HttpClient(keep=0)
    heard = Heard()
    client.send(ORIGIN, b"one", heard)
    (await sent(backend)).receive(answer())
    assert heard.ended == ["complete"]
    assert backend.live == []


async def test_a_stale_connection_is_replaced_and_only_then(backend: Backend) -> None:
    client = HttpClient()
    first, second = Heard(), Heard()
    client.send(ORIGIN, b"one", first)
    server = await sent(backend)
    server.receive(answer())
    client.send(ORIGIN, b"two", second)
    server.lose()
    fresh = await sent(backend)
    assert fresh.take() == b"two"
    fresh.lose()
    assert second.ended == ["reset"]


async def test_who_cancels_hears_no_more(backend: Backend) -> None:
    client = HttpClient()
    backend.hanging.add("10.0.0.2")
    heard = Heard()
    connecting = client.send(Origin("10.0.0.2", 1), b"x", heard)
    waiting = client.send(ORIGIN, b"x", heard)
    await settle()
    connecting.cancel()
    waiting.cancel()
    await settle()
    assert (heard.ended, backend.live, len(asyncio.all_tasks())) == ([], [], 1)


async def test_a_stream_as_it_comes(backend: Backend) -> None:
    client = HttpClient()
    stream = client.stream(ORIGIN, "GET", "/")
    opening = asyncio.ensure_future(stream.__aenter__())
    server = await sent(backend)
    server.receive(STREAM_HEAD + chunk(b"one"))
    assert await opening is stream
    assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
    pieces = stream.__aiter__()
    server.receive(chunk(b"two"))
    assert [await anext(pieces), await anext(pieces)] == [b"one", b"two"]
    assert "200 open" in repr(stream)
    waiting = asyncio.ensure_future(anext(pieces))
    await settle()
    assert not waiting.done()
    server.receive(chunk(b"three"))
    assert await waiting == b"three"
    server.receive(chunk(b"four")[:7])
    server.lose()
    assert await anext(pieces) == b"four"[:4]
    with pytest.raises(UpstreamError) as error:
        await anext(pieces)
    assert error.value.reason == "cut_off"
    await stream.__aexit__(None, None, None)


async def test_leaving_a_stream_ends_it(backend: Backend) -> None:
    client = HttpClient()
    stream = client.stream(ORIGIN, "GET", "/")
    opening = asyncio.ensure_future(stream.__aenter__())
    server = await sent(backend)
    server.receive(STREAM_HEAD + chunk(b"one"))
    await opening
    await stream.__aexit__(None, None, None)
    assert backend.live == []


async def test_a_reader_that_is_slow_holds_the_server_up(backend: Backend) -> None:
    client = HttpClient()
    stream = client.stream(ORIGIN, "GET", "/")
    opening = asyncio.ensure_future(stream.__aenter__())
    server = await sent(backend)
    server.receive(STREAM_HEAD + chunk(b"x" * HIGH_WATER))
    await opening
    assert not server.paused
    server.receive(chunk(b"y"))
    assert server.paused
    assert await anext(stream.__aiter__()) == b"x" * HIGH_WATER
    assert not server.paused


@pytest.mark.parametrize("hanging", [True, False])
async def test_a_time_limit(backend: Backend, hanging: bool) -> None:
    client = HttpClient()
    if hanging:
        backend.hanging.add("10.0.0.1")
    with pytest.raises(UpstreamError, match=r"no answer to GET / within 0\.01 s"):
        await client.fetch(ORIGIN, "GET", "/", time_limit=0.01)
    await settle()
    assert backend.live == []


async def test_a_stream_that_breaks_off_leaves_nothing_to_the_collector(backend: Backend) -> None:
    client = HttpClient()

    async def read() -> bytes:
        async with client.stream(ORIGIN, "GET", "/") as stream:
            return await stream.read()

    with leaves_nothing(UpstreamError, AnswerStream, ClientRequest):
        reading = asyncio.ensure_future(read())
        server = await sent(backend)
        server.receive(STREAM_HEAD + chunk(b"one"))
        await settle()
        server.lose()
        with contextlib.suppress(UpstreamError):
            await reading
        del reading
        await settle()  # until then the loop holds what it threw into here


async def test_nobody_listens(backend: Backend) -> None:
    backend.failures["10.0.0.1"] = [ConnectionRefusedError()]
    with pytest.raises(UpstreamError) as refused:
        await HttpClient().fetch(ORIGIN, "GET", "/")
    assert (refused.value.reason, refused.value.detail) == ("refused", "connection refused")


async def test_closing_keeps_no_connection(backend: Backend) -> None:
    client = HttpClient()
    busy = Heard()
    client.send(ORIGIN, b"one", busy)
    idle = await sent(backend)
    idle.receive(answer())
    client.send(Origin("10.0.0.2", 1), b"two", busy)
    await settle()
    assert repr(client) == "<HttpClient connections=2>"
    client.close()
    (left,) = backend.live
    left.receive(answer())
    assert busy.ended == ["complete"] * 2
    assert backend.live == []


def test_an_origin() -> None:
    assert [Origin("a", 1).key, Origin("::1", 2).key] == ["a:1", "[::1]:2"]
