"""One request on its way to one instance: over a kept connection, or over a new one."""

from __future__ import annotations

import asyncio

from fd_router.errors import UpstreamError
from fd_router.proxy.pool import InstancePool
from fd_router.proxy.upstream import Listener, UpstreamConnection


class Leg:
    """Gets a connection and sends; ``listener`` hears of the answer, also when no connection came about.

    A listener that is told of a stale connection calls ``replace``; one whose answer is complete forgets the leg,
    since the connection is the pool's again. ``time_limit`` is for the first byte, in seconds (0: the usual one).
    """

    __slots__ = ("_body", "_connecting", "_connection", "_head", "_is_paused", "_listener", "_pool", "_time_limit")

    def __init__(
        self, pool: InstancePool, listener: Listener, head: bytes, body: bytes, time_limit: float = 0.0
    ) -> None:
        self._pool = pool
        self._listener = listener
        self._head = head
        self._body = body
        self._time_limit = time_limit
        self._connection: UpstreamConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._is_paused = False

    def start(self) -> None:
        """Send over a kept connection if there is one, else over a new one."""
        connection = self._pool.acquire()
        if connection is not None:
            self._send(connection)
        else:
            self.replace()

    def replace(self) -> None:
        """Send over a new connection: there is no kept one, or it turned out dead."""
        self._connecting = self._pool.connect(self._send, self._refuse)

    def cancel(self) -> None:
        """Close what there is at once, so that the instance stops working for nobody."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.cancel()
            self._connection = None

    def pause(self) -> None:
        """Stop reading the answer."""
        self._is_paused = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read on."""
        self._is_paused = False
        if self._connection is not None:
            self._connection.resume()

    def _send(self, connection: UpstreamConnection) -> None:
        self._connecting = None
        self._connection = connection
        connection.send(self._listener, self._head, self._body, self._time_limit)
        if self._is_paused:
            connection.pause()

    def _refuse(self, error: UpstreamError) -> None:
        self._connecting = None
        self._listener.on_failed(error, stale=False)
