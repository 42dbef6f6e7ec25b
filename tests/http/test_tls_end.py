"""How an encrypted connection ended, over real sockets and by both event loops."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from fd_router.http import upstream_connection
from fd_router.http.tls_end import was_cut
from tests.support.certificates import Certificates
from tests.support.fake_upstream import exchange


class Watch(asyncio.Protocol):
    """Notes what is said of a connection's end."""

    def __init__(self) -> None:
        self.transport: asyncio.BaseTransport
        self.was_cut: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(b"?")  # type: ignore[attr-defined]

    def connection_lost(self, exc: Exception | None) -> None:
        self.was_cut.set_result(exc is None and was_cut(self.transport))


def serve(listener: socket.socket, context: ssl.SSLContext | None, *, says_so: bool) -> None:
    """Answer one client, and end with a word or without."""
    plain, _ = listener.accept()
    connection = plain if context is None else context.wrap_socket(plain, server_side=True)
    connection.recv(1)
    connection.sendall(b"the answer")
    if says_so and isinstance(connection, ssl.SSLSocket):
        connection.unwrap().close()
    else:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
        connection.close()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize(
    ("encrypted", "says_so", "expected"), [(True, True, False), (True, False, True), (False, False, False)]
)
def test_how_it_ended(
    tmp_path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop], encrypted: bool, says_so: bool, expected: bool
) -> None:
    certificates = Certificates(tmp_path)
    cert, key = certificates.issue("127.0.0.1")
    context: ssl.SSLContext | None = None
    if encrypted:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)

    async def ask(port: int) -> bool:
        options = {"ssl": certificates.client(), "server_hostname": "127.0.0.1"} if encrypted else {}
        _, watch = await asyncio.get_running_loop().create_connection(Watch, "127.0.0.1", port, **options)  # type: ignore[arg-type]
        return await asyncio.wait_for(watch.was_cut, 10)

    with socket.create_server(("127.0.0.1", 0)) as listener, asyncio.Runner(loop_factory=new_loop) as runner:
        server = threading.Thread(target=serve, args=(listener, context), kwargs={"says_so": says_so})
        server.start()
        assert runner.run(ask(listener.getsockname()[1])) is expected
        server.join(10)


@pytest.mark.parametrize(
    ("body", "is_cut", "ending"),
    [
        (b"ab", False, "complete"),
        (b"ab", True, "cut_off"),
        (b"", False, "complete"),
        (b"", True, "reset"),
    ],
)
def test_an_answer_that_ends_with_its_connection(
    monkeypatch: pytest.MonkeyPatch, body: bytes, is_cut: bool, ending: str
) -> None:
    monkeypatch.setattr(upstream_connection, "was_cut", lambda _: is_cut)
    _, listener = exchange(b"HTTP/1.1 200 OK\r\n\r\n" + body, end=True)
    found = listener.ending
    assert (found[0] if isinstance(found, tuple) else found) == ending


def test_an_answer_of_a_known_length_is_whole_however_its_connection_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_connection, "was_cut", lambda _: True)
    _, listener = exchange(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab", end=True)
    assert listener.ending == "complete"
