"""A TLS port before the first request: half handshakes count as connections, and plain HTTP is told where it is."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme

from fd_router.http.listener import Listener, open_sockets
from fd_router.http.server_connection import ServerConnection
from fd_router.http.tls_greeting import HANDSHAKE_SECONDS, TlsGreeter
from tests.support.ports import free_port
from tests.support.rig import Rig

HALF = b"\x16\x03\x01\x02\x00\x01"
GET = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"


class Port:
    """A TLS port of a rig's server."""

    def __init__(self, **settings: int) -> None:
        authority = trustme.CA()
        self.server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self.server_side)
        self.client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(self.client_side)
        self.rig = Rig(**settings)
        del self.rig.loop.create_connection  # clients and sockets are real here
        self.number = free_port()
        self.halves: list[socket.socket] = []
        self.greeted = 0

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Port]:
        server = self.rig.server
        sockets = open_sockets("127.0.0.1", self.number)
        self._greeter = TlsGreeter(server, self.server_side)
        listener = Listener(sockets, lambda: ServerConnection(server), greeter=self)
        await listener.start()
        try:
            yield self
        finally:
            listener.close()
            self.rig.state.abort()
            for half in self.halves:
                half.close()
            await self.until(lambda: not self.rig.state.connections)
            assert len(self.rig.sweeper) == 0
            assert self.rig.bugs == []

    def greet(self, sock: socket.socket) -> None:
        """Be the listener's greeter, and count."""
        self._greeter.greet(sock)
        self.greeted += 1

    async def until(self, holds: object) -> None:
        for _ in range(500):
            if holds():  # type: ignore[operator]
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it never comes to that")

    async def ask(self, *, tls: bool = True) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.number, ssl=self.client_side if tls else None)
        writer.write(GET)
        answer = await reader.read(1000)
        writer.close()
        return answer

    async def half(self, number: int, data: bytes = HALF) -> None:
        """Connect, and send ``data``; return when the port has seen so many connections more."""
        wanted = self.greeted + number
        for _ in range(number):
            sock = socket.create_connection(("127.0.0.1", self.number))
            sock.sendall(data)
            self.halves.append(sock)
        await self.until(lambda: self.greeted >= wanted)


async def test_a_request_is_answered_and_counts_once() -> None:
    async with Port().open() as port:
        assert (await port.ask()).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("data", [HALF, b""], ids=["half a handshake", "nothing"])
async def test_connections_that_bring_no_handshake_count_and_go_first(data: bytes) -> None:
    async with Port(max_connections=10).open() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port.number, ssl=port.client_side)
        for _ in range(2):
            writer.write(GET)
            assert (await reader.read(1000)).startswith(b"HTTP/1.1 404 ")
            await port.half(60, data)
            assert len(port.rig.state.connections) <= 10
        assert (await port.ask()).startswith(b"HTTP/1.1 404 ")
        writer.close()


async def test_a_handshake_has_its_time() -> None:
    async with Port().open() as port:
        await port.half(3)
        assert len(port.rig.state.connections) == 3
        await port.rig.pass_time(HANDSHAKE_SECONDS + 1)
        await port.until(lambda: not port.rig.state.connections)
        assert port.halves[0].recv(100) in (b"", b"\x15\x03\x03\x00\x02\x02\x28")


async def test_a_draining_router_waits_for_a_moment_only() -> None:
    async with Port().open() as port:
        await port.half(1)
        port.rig.state.close_idle()
        await port.rig.pass_time(2)
        await port.until(lambda: not port.rig.state.connections)


async def test_plain_http_is_told_what_is_spoken_here() -> None:
    async with Port().open() as port:
        answer = await port.ask(tls=False)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"use https://" in answer
        assert b'"code":"tls_needed"' in answer


@pytest.mark.parametrize("data", [bytes(20), b"SSH-2.0-x\r\n", b"\x16\x03\x01\x00\x05hello"])
async def test_something_else_is_closed(data: bytes) -> None:
    async with Port().open() as port:
        await port.half(1, data)
        await port.until(lambda: not port.rig.state.connections or data[:1] == b"S")


async def test_a_client_that_leaves_at_once_leaves_nothing() -> None:
    async with Port().open() as port:
        for data in (b"", HALF):
            await port.half(1, data)
            port.halves.pop().close()
            await port.until(lambda: not port.rig.state.connections)


async def test_one_that_is_over_makes_no_room() -> None:
    async with Port(max_connections=10).open() as port:
        await port.half(11)  # the limiter has looked at all of them, and knows which one is to go next
        for half in port.halves:
            half.close()
        await port.until(lambda: not port.rig.state.connections)
        opened: list[asyncio.StreamWriter] = []
        for _ in range(15):
            reader, writer = await asyncio.open_connection("127.0.0.1", port.number, ssl=port.client_side)
            writer.write(GET)
            assert (await reader.read(1000)).startswith(b"HTTP/1.1 404 ")
            opened.append(writer)
            assert len(port.rig.state.connections) <= 10
        for writer in opened:
            writer.close()
