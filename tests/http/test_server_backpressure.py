"""What a client may have waiting here: requests that it sends ahead, and answers that it doesn't take."""

from __future__ import annotations

import pytest

from fd_router.http.messages import Request, Response
from fd_router.http.request_reader import MAX_HELD
from fd_router.http.write_batcher import LARGE
from tests.http.test_server_connection import ROUTES, get, statuses
from tests.support.rig import STREAM_HEAD, Rig, answer, chunk, post

HALF = b'{"prompt": "%b"}' % (b"x" * (MAX_HELD // 2 + 1))


async def test_no_further_answers_for_a_client_that_takes_none() -> None:
    """Else each small request would leave an answer here."""
    served = []

    async def large(request: Request) -> Response:
        served.append(request)
        return Response(200, b"x" * 50_000)

    rig = Rig(routes={"/large": {"GET": large}}, client_idle_timeout_secs=5)
    client = rig.client()
    client.receive(get("/large") * 5)
    await rig.settle()
    assert len(served) == 5
    client.protocol.pause_writing()  # type: ignore[union-attr]
    client.receive(get("/large") * 5)
    await rig.settle()
    assert len(served) == 5
    client.receive(get("/large") * 50)
    assert client.paused
    client.protocol.resume_writing()  # type: ignore[union-attr]
    for _ in range(20):
        await rig.settle()
    assert len(served) == 60
    assert not client.paused
    await rig.pass_time(6)
    assert client.is_closing()


@pytest.mark.parametrize("rest", [b"", b"GET /he", get("/hello")], ids=["nothing", "half a request", "a request"])
async def test_a_client_that_takes_no_answer_is_given_up(rest: bytes) -> None:
    rig = Rig(routes=ROUTES, client_idle_timeout_secs=5, client_head_timeout_secs=100)
    client = rig.client()
    client.receive(get("/hello"))
    client.protocol.pause_writing()  # type: ignore[union-attr]
    client.receive(rest)
    await rig.settle()
    await rig.pass_time(6)
    assert client.aborted


async def test_large_requests_behind_the_one_that_is_answered_wait_in_the_kernel() -> None:
    rig = Rig(1)
    client = rig.client()
    instance = await rig.ask(client)
    client.receive(post(HALF))
    assert not client.paused
    client.receive(post(HALF)[:-1])
    assert client.paused
    instance.receive(answer())
    await rig.settle()
    assert not client.paused, "only half a request is still ahead"
    instance.receive(answer())
    await rig.settle()
    client.receive(post(HALF)[-1:])
    await rig.settle()
    instance.receive(answer())
    await rig.settle()
    assert statuses(client.take()) == [200, 200, 200]
    rig.assert_nothing_is_held()


async def test_a_large_body_alone_is_read_on() -> None:
    rig = Rig()
    client = rig.client()
    client.receive(post(HALF * 4)[:-1])
    assert not client.paused


async def test_a_large_piece_of_an_answer_stops_the_instance_before_the_next_one_is_read() -> None:
    """A loop's turn may bring megabytes: written only at its end, they would all be here."""
    rig = Rig()
    client = rig.client()
    instance = await rig.ask(client, b'{"prompt": "hello", "stream": true}')
    instance.receive(STREAM_HEAD)
    await rig.settle()
    write = client.write

    def overflow(data: bytes) -> None:
        write(data)
        client.protocol.pause_writing()  # type: ignore[union-attr]

    client.write = overflow  # type: ignore[method-assign,assignment]
    instance.receive(chunk(b"x" * 1000))
    assert not instance.paused
    instance.receive(chunk(b"x" * LARGE))
    assert instance.paused
