"""A connection serves again only after a request that was sent whole, and an answer that was one to it."""

from __future__ import annotations

import pytest

from fd_router.errors import Retry
from fd_router.http.heads import ResponseHead
from tests.support.fake_upstream import CHUNKED, HEAD, OK, SIZED, FakeListener, Line, exchange
from tests.support.rig import Rig, answer

ANSWERS = [SIZED, OK + b"Content-Length: 3\r\n\r\nbad", CHUNKED + b"0\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"]


@pytest.mark.parametrize("data", ANSWERS)
@pytest.mark.parametrize("step", [0, 1])
def test_an_answer_before_the_request_was_sent_whole_ends_the_connection(data: bytes, step: int) -> None:
    for times in (0, 1):  # with an unknown head, and with a known one
        line = Line()
        for _ in range(times):
            line.send()
            line.receive(data, step)
        listener = line.send()
        line.transport.buffered = 1
        line.receive(data, step)
        assert listener.ending == "complete"
        assert line.transport.aborted
        assert line.owner.events.count("reusable") == times


@pytest.mark.parametrize("kept", [True, False])
def test_bytes_that_come_before_the_request_went_out_are_no_answer_to_it(kept: bool) -> None:
    line = exchange(SIZED)[0] if kept else Line()
    listener = FakeListener()
    line.connection.send(listener, HEAD)
    line.receive(SIZED)  # in the same turn: it was there before
    assert (listener.ending, listener.stale) == (("reset", Retry.ALWAYS, 502), kept)
    line.loop.run_soon()
    assert line.transport.aborted
    assert HEAD not in line.transport.writes[-1:]


async def test_the_next_client_gets_a_connection_of_its_own() -> None:
    rig = Rig(1)
    client, other = rig.client(), rig.client()
    instance = await rig.ask(client, b'{"prompt": "' + b"x" * 1_000_000 + b'"}')
    instance.buffered = 900_000
    instance.receive(answer(b"no", "400 Bad Request"))
    await rig.settle()
    assert client.take().startswith(b"HTTP/1.1 400 ")
    assert await rig.ask(other) is not instance
    assert instance.aborted


class Broken(FakeListener):
    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def _break(self, where: str) -> None:
        if where == self.where:
            raise RuntimeError(where)

    def on_head(self, head: ResponseHead, body: bytes) -> None:
        self._break("head")
        super().on_head(head, body)

    def on_data(self, data: bytes) -> None:
        self._break("data")

    def on_complete(self) -> None:
        self._break("complete")

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        self._break("whole")

    def on_failed(self, error: object, *, stale: bool) -> None:
        self._break("failed")


WAYS = [("whole", "answer"), *((where, "end") for where in ("head", "data", "complete", "failed"))]


@pytest.mark.parametrize(("where", "how"), [*WAYS, ("failed", "garbage"), ("failed", "silence")])
def test_whatever_a_listener_raises_it_hears_of_it(where: str, how: str) -> None:
    line = exchange(SIZED)[0] if where == "whole" else Line()
    listener = Broken(where)
    line.connection.send(listener, HEAD)
    line.loop.run_soon()
    if where == "whole":
        line.receive(SIZED)
    elif where != "failed":
        line.receive(OK + b"Connection: close\r\n\r\na")
        line.receive(b"b")
    if how == "garbage":
        line.receive(b"\x00\x01")
    elif how == "silence":
        line.loop.advance(60)
    elif not line.transport.is_closing():
        line.transport.lose()
    line.loop.run_soon()
    assert str(listener.ending) == where
    assert "closed" in line.owner.events
    assert len(line.sweeper) == 0
