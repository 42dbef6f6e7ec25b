"""Connections to a TLS port before their first request: they count from the moment they are accepted.

The event loop knows nothing of a connection whose handshake isn't over, so that thousands of half handshakes could take
every open file. Here the handshake itself is one of the server's connections, the first to go when there are too many.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from fd_router.errors import BadRequestError
from fd_router.http.closable_connection import LAST_CALL_SECONDS
from fd_router.http.server_connection import ServerConnection
from fd_router.http.server_context import ServerContext
from fd_router.http.tls import SHUTDOWN_SECONDS

HANDSHAKE_SECONDS = 10.0
"""How long a client may take for its TLS handshake."""

_LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""What a request in plain HTTP begins with; a handshake begins with 22 (RFC 8446 section 5.1)."""

_PLAIN = "This port speaks TLS: use https:// instead of http://"


class TlsGreeter:
    """Takes sockets as they are accepted, and makes connections of the server of them."""

    __slots__ = ("_context", "_tls")

    def __init__(self, context: ServerContext, tls: ssl.SSLContext) -> None:
        self._context = context
        self._tls = tls

    def greet(self, sock: socket.socket) -> None:
        """Begin with a client."""
        TlsGreeting(self._context, self._tls, sock).start()


class TlsGreeting:
    """One client until its handshake is over: a connection of the server that brings nothing yet."""

    __slots__ = ("_context", "_is_over", "_loop", "_sock", "_task", "_tls", "deadline")

    is_unproven = True
    is_idle = False
    proxied = None

    def __init__(self, context: ServerContext, tls: ssl.SSLContext, sock: socket.socket) -> None:
        self._context = context
        self._tls = tls
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None  # of the handshake
        self._is_over = False
        self.deadline = context.sweeper.now + HANDSHAKE_SECONDS

    def start(self) -> None:
        """Wait for the first byte, which tells what the client speaks."""
        self._loop.add_reader(self._sock, self._on_readable)
        self._context.sweeper.add(self)
        self._context.state.admit(self)
        if self._is_over:  # there was no room
            self._leave()
        elif self._context.state.is_closing_idle:
            self.on_close_idle()

    def _on_readable(self) -> None:
        self._loop.remove_reader(self._sock)
        try:
            first = self._sock.recv(1, socket.MSG_PEEK)
        except OSError:
            first = b""
        if first:
            self._task = self._loop.create_task(self._go_on(is_plain=first[0] in _LETTERS))
        else:
            self.abort()

    async def _go_on(self, *, is_plain: bool) -> None:
        connection = ServerConnection(self._context)
        loop, sock = self._loop, self._sock
        try:
            if is_plain:
                await loop.connect_accepted_socket(lambda: _Arrival(connection, self._leave, _PLAIN), sock)
            else:
                await loop.connect_accepted_socket(
                    lambda: _Arrival(connection, self._leave),
                    sock,
                    ssl=self._tls,
                    ssl_handshake_timeout=HANDSHAKE_SECONDS,
                    ssl_shutdown_timeout=SHUTDOWN_SECONDS,
                )
        except OSError:  # it left, or speaks no TLS that is taken here
            sock.close()
        finally:
            self._leave()

    def _leave(self) -> None:
        """Be no connection of the server any more."""
        self._is_over = True
        self._context.state.connections.discard(self)
        self._context.sweeper.discard(self)

    # what the server calls

    def evict(self) -> bool:
        """Make room, unless it is over: nothing is lost but a handshake."""
        if self._is_over:
            return False
        self.abort()
        return True

    def abort(self) -> None:
        """Close at once."""
        self._leave()
        if self._task is not None:
            self._task.cancel()
        else:
            self._loop.remove_reader(self._sock)
            self._sock.close()

    on_deadline = abort

    def on_drain(self) -> None:
        """Its requests are yet to come."""

    def on_close_idle(self) -> None:
        """Hurry: what it becomes will close soon as well."""
        self.deadline = min(self.deadline, self._context.sweeper.now + LAST_CALL_SECONDS)

    def __repr__(self) -> str:
        return f"<TlsGreeting {'shaking hands' if self._task is not None else 'waiting'}>"


class _Arrival(asyncio.Protocol):
    """Puts the server's connection in its own place, once the transport is there."""

    __slots__ = ("_connection", "_leave", "_refusal")

    def __init__(self, connection: ServerConnection, leave: Callable[[], None], refusal: str = "") -> None:
        self._connection = connection
        self._leave = leave
        self._refusal = refusal

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._leave()
        transport.set_protocol(self._connection)
        self._connection.connection_made(transport)
        if self._refusal:
            self._connection.refuse(BadRequestError(self._refusal, code="tls_needed"))


def accept_all(sock: socket.socket, greet: Callable[[socket.socket], None], most: int = 256) -> None:
    """Accept what waits at ``sock``, ``most`` at a time. Raises OSError when the system has no more to give."""
    for _ in range(most):
        try:
            connection, _address = sock.accept()
        except (BlockingIOError, InterruptedError):
            return
        except ConnectionAbortedError:
            continue
        connection.setblocking(False)
        with contextlib.suppress(OSError):  # no TCP
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        greet(connection)
