"""How a client's connection ends: too late, refused, cut off, drained."""

from __future__ import annotations

import gc

import pytest

from fd_router.http.request_reader import RequestReader
from tests.http.test_server_connection import ROUTES, get, message, statuses, talk
from tests.support.rig import STREAM_END, STREAM_HEAD, Rig, answer, chunk, post


class TestTimeLimits:
    async def test_a_slow_head(self) -> None:
        rig = Rig(client_head_timeout_secs=5)
        client = rig.client()
        await rig.pass_time(20)
        for byte in b"POST / HT":
            client.receive(bytes([byte]))
            await rig.pass_time(0.5)
        assert not client.written
        client.receive(b"TP")
        await rig.pass_time(1)
        data = client.take()
        assert statuses(data) == [408]
        assert "head took more than 5 s" in message(data)
        assert client.eof
        await rig.pass_time(3)
        assert client.aborted

    async def test_a_slow_body(self) -> None:
        rig = Rig(client_body_timeout_secs=5)
        client = rig.client()
        client.receive(post()[:-5])
        for _ in range(4):
            await rig.pass_time(3)
            client.receive(b" ")
        assert not client.written
        await rig.pass_time(6)
        data = client.take()
        assert statuses(data) == [408]
        assert "body paused for more than 5 s" in message(data)

    async def test_a_slow_body_that_comes_to_its_end(self) -> None:
        rig = Rig(client_body_timeout_secs=5)
        client = rig.client()
        data = post()
        for at in range(len(data) - 8, len(data)):
            client.receive(data[at : at + 1] if at > len(data) - 8 else data[: at + 1])
            await rig.pass_time(4)
        rig.backend.live[-1].receive(answer())
        await rig.settle()
        assert statuses(client.take()) == [200]

    async def test_a_body_that_drips_for_ever(self) -> None:
        rig = Rig(client_body_timeout_secs=5, client_request_timeout_secs=8)
        client = rig.client()
        client.receive(post(b" " * 50)[:-50])
        for _ in range(4):
            client.receive(b" ")
            await rig.pass_time(2.5)
        data = client.take()
        assert statuses(data) == [408]
        assert "body took more than 8 s" in message(data)

    async def test_the_answer_may_take_longer_than_the_client(self) -> None:
        rig = Rig(client_idle_timeout_secs=5, client_head_timeout_secs=5, client_body_timeout_secs=5)
        client = rig.client()
        instance = await rig.ask(client)
        client.receive(b"POST /half")
        await rig.pass_time(100)
        assert not client.is_closing()
        instance.receive(answer())
        await rig.settle()
        assert statuses(client.take()) == [200]
        await rig.pass_time(6)  # now the half request is late
        assert statuses(client.take()) == [408]

    async def test_a_408_comes_after_the_answers_before_it(self) -> None:
        rig = Rig(routes=ROUTES, client_head_timeout_secs=5)
        client, data = await talk(rig, get("/hello") + b"GET /he")
        assert statuses(data) == [200]
        await rig.pass_time(6)
        assert statuses(client.take()) == [408]


class TestClosing:
    async def test_a_refused_client_may_finish_sending(self) -> None:
        rig = Rig()
        client, data = await talk(rig, b"nonsense\r\n\r\n")
        assert statuses(data) == [400]
        assert client.eof
        assert not client.is_closing()
        client.receive(b"more nonsense" * 1000)
        await rig.settle()
        assert client.take() == b""
        client.lose()
        assert not rig.state.connections
        assert "[-] - HTTP/1.1 400" in rig.log_lines[-1]

    async def test_but_not_for_ever(self) -> None:
        rig = Rig()
        client, _ = await talk(rig, b"nonsense\r\n\r\n")
        await rig.pass_time(3)
        assert client.aborted

    async def test_a_last_answer_that_nobody_takes_is_given_up(self) -> None:
        rig = Rig(routes=ROUTES, client_idle_timeout_secs=10)
        client, _ = await talk(rig, b"")
        client._end = lambda error: None  # type: ignore[method-assign]  # its buffer never gets empty
        client.receive(get("/hello", "Connection: close\r\n"))
        await rig.settle()
        assert client.closed
        await rig.pass_time(9)
        assert not client.aborted
        await rig.pass_time(2)
        assert client.aborted

    async def test_a_cut_off_answer_that_nobody_takes_is_given_up(self) -> None:
        rig = Rig(client_idle_timeout_secs=10)
        client = rig.client()
        instance = await rig.ask(client)
        client.receive(b"POST /half")
        client._end = lambda error: None  # type: ignore[method-assign]
        instance.receive(answer()[:-1])
        instance.lose()
        await rig.settle()
        assert client.closed
        assert not client.aborted
        await rig.pass_time(11)
        assert client.aborted

    async def test_the_client_closes_while_requests_wait(self) -> None:
        rig = Rig(routes=ROUTES)
        client = rig.client()
        await rig.ask(client)
        client.receive(get("/hello") * 20)
        client.lose()
        await rig.settle()
        assert [record.outcome for record in rig.records] == ["client_gone"]
        assert not rig.state.connections
        rig.assert_nothing_is_held()

    async def test_abort(self) -> None:
        rig = Rig()
        client = rig.client()
        await rig.ask(client)
        client.protocol.abort()  # type: ignore[union-attr]
        await rig.settle()
        rig.assert_nothing_is_held()


class TestDrain:
    async def test_every_answer_is_the_last_of_its_connection_and_says_so(self) -> None:
        rig = Rig(routes=ROUTES)
        busy, kept = rig.client(), rig.client()
        instance = await rig.ask(busy)
        rig.state.drain()
        instance.receive(answer(b"fine"))
        await rig.settle()
        assert b"connection: close\r\n" in busy.written
        assert busy.written.endswith(b"fine")
        assert busy.closed
        await rig.pass_time(30)
        assert not kept.is_closing()
        instance = await rig.ask(kept)  # what comes until the connections are called in is served
        instance.receive(answer(b"fine"))
        await rig.settle()
        assert b"connection: close\r\n" in kept.written
        assert kept.closed

    async def test_a_stream_that_has_begun_goes_on_to_its_end(self) -> None:
        rig = Rig()
        client = rig.client()
        instance = await rig.ask(client)
        instance.receive(STREAM_HEAD + chunk(b"one"))
        await rig.settle()
        rig.state.drain()
        rig.state.close_idle()
        await rig.pass_time(20)
        instance.receive(chunk(b"two") + STREAM_END)
        await rig.settle()
        assert client.written.endswith(chunk(b"one") + chunk(b"two") + STREAM_END)
        await rig.pass_time(2)
        assert client.is_closing()
        assert not rig.state.connections

    @pytest.mark.parametrize("called", ["before", "after"])
    async def test_a_client_that_was_told_to_keep_its_connection_is_not_cut_off_at_once(self, called: str) -> None:
        """Its next request may be on its way, and would be reset."""
        rig = Rig(1)
        client = rig.client()
        instance = await rig.ask(client)
        instance.receive(STREAM_HEAD + chunk(b"one"))
        await rig.settle()
        rig.state.drain()
        if called == "before":
            rig.state.close_idle()
        instance.receive(STREAM_END)
        await rig.settle()
        if called == "after":
            rig.state.close_idle()
        await rig.pass_time(0.5)
        assert not client.is_closing()
        client.take()
        instance = await rig.ask(client)
        instance.receive(answer(b"fine"))
        await rig.settle()
        assert b"connection: close\r\n" in client.written
        assert client.closed

    async def test_idle_ones_close_soon_after_the_last_call_and_so_do_new_ones(self) -> None:
        rig = Rig(routes=ROUTES)
        idle, quick = rig.client(), rig.client()
        rig.state.drain()
        rig.state.close_idle()
        late = rig.client()
        await rig.pass_time(0.5)
        assert not idle.is_closing()
        assert not late.is_closing()
        quick.receive(get("/hello"))  # it was on its way
        await rig.pass_time(1)
        assert idle.is_closing()
        assert late.is_closing()
        assert statuses(quick.written) == [200]
        assert not rig.state.connections

    async def test_a_client_that_takes_its_last_answer_slowly_gets_all_of_it(self) -> None:
        rig = Rig(routes=ROUTES, client_idle_timeout_secs=60)
        client, _ = await talk(rig, get("/hello"))
        client._end = lambda error: None  # type: ignore[method-assign]  # its buffer isn't empty yet
        client.buffered = 100_000
        rig.state.drain()
        rig.state.close_idle()
        await rig.pass_time(50)
        assert client.closed
        assert not client.aborted
        assert rig.state.connections
        await rig.pass_time(11)
        assert client.aborted

    async def test_a_half_request_is_still_answered(self) -> None:
        rig = Rig(routes=ROUTES)
        client = rig.client()
        client.receive(get("/hello")[:-4])
        rig.state.drain()
        rig.state.close_idle()
        await rig.pass_time(5)
        client.receive(get("/hello")[-4:])
        await rig.settle()
        assert statuses(client.written) == [200]
        assert b"connection: close" in client.written
        assert client.closed


async def test_a_closed_connection_is_freed_at_once() -> None:
    """The collector runs seldom: what it had to find would look like a leak."""
    rig = Rig(1)
    client = rig.client()
    instance = await rig.ask(client)
    instance.receive(answer())
    await rig.settle()
    gc.collect()
    gc.disable()
    try:
        before = count(RequestReader)
        client.lose()
        await rig.settle()
        client.protocol = None
        assert count(RequestReader) == before - 1
    finally:
        gc.enable()


def count(kind: type) -> int:
    return sum(isinstance(each, kind) for each in gc.get_objects())
