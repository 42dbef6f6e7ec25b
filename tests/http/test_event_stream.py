"""Answers that go on with events: framed, dropped for who is behind, ended with their client or the router."""

from __future__ import annotations

from collections.abc import Callable

from fd_router.http.messages import EventOutlet, Request, Response
from tests.support.rig import Rig


class Source:
    def __init__(self) -> None:
        self.outlets: list[EventOutlet] = []
        self.gone = 0

    def subscribe(self, outlet: EventOutlet) -> Callable[[], None]:
        self.outlets.append(outlet)
        outlet.send(b"data: 1\n\n")

        def leave() -> None:
            self.gone += 1

        return leave

    async def handler(self, request: Request) -> Response:
        return Response(200, b"", "text/event-stream", events=self.subscribe)


def get(version: str = "1.1", method: str = "GET") -> bytes:
    return f"{method} /events HTTP/{version}\r\nHost: x\r\n\r\n".encode()


def make() -> tuple[Rig, Source]:
    source = Source()
    return Rig(routes={"/events": {"GET": source.handler}}), source


async def test_events_come_as_chunks_until_the_client_leaves() -> None:
    rig, source = make()
    client = rig.client()
    client.receive(get())
    await rig.settle()
    head, _, body = client.take().partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert b"connection: close" in head
    assert b"content-length" not in head
    assert body == b"9\r\ndata: 1\n\n\r\n"
    assert source.outlets[0].send(b"data: 2\n\n")
    await rig.settle()
    assert client.take() == b"9\r\ndata: 2\n\n\r\n"
    client.lose()
    assert source.gone == 1
    (line,) = [line for line in rig.log_lines if "/events" in line]
    assert " 200 " in line  # it is no client that left before its answer was there
    assert "outcome" not in line


async def test_an_http_1_0_client_gets_them_as_they_are() -> None:
    rig, source = make()
    client = rig.client()
    client.receive(get("1.0"))
    await rig.settle()
    head, _, body = client.take().partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body == b"data: 1\n\n"
    source.outlets[0].end()
    await rig.settle()
    assert (client.take(), client.is_closing(), source.gone) == (b"", True, 1)


async def test_who_only_asks_for_the_head_gets_no_events() -> None:
    rig, source = make()
    client = rig.client()
    client.receive(get(method="HEAD"))
    await rig.settle()
    assert b"content-length: 0" in client.take()
    assert not source.outlets


async def test_a_client_that_is_behind_misses_events() -> None:
    rig, source = make()
    client = rig.client()
    client.receive(get())
    await rig.settle()
    client.take()
    client.protocol.pause_writing()
    assert not source.outlets[0].send(b"data: 2\n\n")
    client.protocol.resume_writing()
    assert source.outlets[0].send(b"data: 3\n\n")
    await rig.settle()
    assert b"data: 2" not in client.take()


async def test_a_router_that_drains_ends_them() -> None:
    rig, source = make()
    client = rig.client()
    client.receive(get())
    await rig.settle()
    client.take()
    rig.state.drain()
    await rig.settle()
    assert client.take().endswith(b"0\r\n\r\n")
    assert client.is_closing()
    assert source.gone == 1
