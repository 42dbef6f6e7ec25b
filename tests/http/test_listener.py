"""Listening sockets: families, handing over, and closing without refusing who waits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator

import pytest

from fd_router.errors import FdRouterError
from fd_router.http.listener import Listener, handed_over, open_sockets
from tests.support.ports import free_port


class Greeter(asyncio.Protocol):
    """Says its listener's name to who connects."""

    def __init__(self, name: bytes) -> None:
        self.name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self.name)
        transport.close()


def listener(port: int, name: bytes, *, reuse_port: bool = True) -> Listener:
    sockets = open_sockets("127.0.0.1", port, reuse_port=reuse_port)
    return Listener(sockets, lambda: Greeter(name), takes_over=reuse_port)


@contextlib.asynccontextmanager
async def listening(one: Listener) -> AsyncIterator[Listener]:
    await one.start()
    try:
        yield one
    finally:
        one.close()


async def greeting(port: int, host: str = "127.0.0.1") -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_the_newer_of_two_gets_all_new_connections_and_so_on() -> None:
    port = free_port()
    async with listening(listener(port, b"first")) as first, listening(listener(port, b"second")) as second:
        assert {await greeting(port) for _ in range(20)} == {b"second"}
        first.stop()
        assert {await greeting(port) for _ in range(20)} == {b"second"}
        async with listening(listener(port, b"third")):
            second.stop()
            assert {await greeting(port) for _ in range(20)} == {b"third"}


async def test_who_waits_to_be_accepted_is_served_when_it_stops() -> None:
    port = free_port()
    one = listener(port, b"served", reuse_port=False)
    clients = []
    async with listening(one):
        for _ in range(5):  # the kernel connects them; the loop gets no turn in which to accept
            client = socket.create_connection(("127.0.0.1", port), timeout=5)
            clients.append(client)
        one.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        for client in clients:
            client.setblocking(False)
            assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 100), 5) == b"served"
            client.close()


async def test_a_shared_socket_keeps_its_queue_when_one_of_its_listeners_stops() -> None:
    port = free_port()
    with socket.socket() as shared:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        shared.bind(("127.0.0.1", port))
        shared.listen()
        async with listening(Listener([shared.dup()], lambda: Greeter(b"old"), is_shared=True)) as old:
            assert await greeting(port) == b"old"
            old.stop()
            waiting = asyncio.create_task(greeting(port))
            async with listening(Listener([shared.dup()], lambda: Greeter(b"new"), is_shared=True)):
                assert await asyncio.wait_for(waiting, 5) == b"new"


@pytest.mark.parametrize("host", ["0.0.0.0", ""])
async def test_the_default_host_means_both_families(host: str) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    port = free_port()
    async with listening(Listener(open_sockets(host, port), lambda: Greeter(b"hello"))):
        assert await greeting(port, "127.0.0.1") == b"hello"
        assert await greeting(port, "::1") == b"hello"


async def test_without_ipv6_the_default_host_means_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def ipv4_only(family: int = -1, *rest: int, **more: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *rest, **more)

    monkeypatch.setattr(socket, "socket", ipv4_only)
    sockets = open_sockets("0.0.0.0", free_port())
    assert [sock.family for sock in sockets] == [socket.AF_INET]
    sockets[0].close()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_in_use(host: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(FdRouterError, match=rf"port {port} on {host} is in use by another program"):
            open_sockets(host, port)


def test_a_host_that_is_none() -> None:
    with pytest.raises(FdRouterError, match=r"can't listen on no\.such\.host\.invalid:1"):
        open_sockets("no.such.host.invalid", 1)
    with pytest.raises(FdRouterError, match=r"can't listen on \[2001:db8::1\]:1: "):
        open_sockets("2001:db8::1", 1)
    with pytest.raises(FdRouterError, match=r"can't listen on a\.\.b:1: that is no host name"):
        open_sockets("a..b", 1)


class TestHandedOver:
    def test_nothing_without_the_variables_or_for_another_process(self) -> None:
        assert handed_over({}, 1) == []
        environ = {"LISTEN_FDS": "1", "LISTEN_PID": "7", "LISTEN_FDNAMES": "http"}
        assert handed_over(environ, 1) == []
        assert environ == {}  # they mean nothing to a child

    @pytest.mark.parametrize("text", ["", "x", "-1"])
    def test_nothing_for_a_number_that_is_none(self, text: str) -> None:
        assert handed_over({"LISTEN_FDS": text, "LISTEN_PID": "1"}, 1) == []

    def test_listening_sockets_and_nothing_else(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as given, socket.socket() as idle:
            given.bind(("127.0.0.1", 0))
            given.listen()
            environ = {"LISTEN_FDS": "1", "LISTEN_PID": "1"}
            monkeypatch.setattr("fd_router.http.listener.FIRST_HANDED_OVER", os.dup(given.fileno()))
            (sock,) = handed_over(dict(environ), 1)
            assert sock.getsockname() == given.getsockname()
            assert not sock.get_inheritable()
            assert not sock.getblocking()
            sock.close()
            monkeypatch.setattr("fd_router.http.listener.FIRST_HANDED_OVER", os.dup(idle.fileno()))
            with pytest.raises(FdRouterError, match="no listening stream socket"):
                handed_over(dict(environ), 1)
            monkeypatch.setattr("fd_router.http.listener.FIRST_HANDED_OVER", 99_999)
            with pytest.raises(FdRouterError, match="descriptor 99999 is no socket: Bad file descriptor"):
                handed_over(dict(environ), 1)
