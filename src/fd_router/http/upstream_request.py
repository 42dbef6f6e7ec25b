"""One request on its way to one instance: over a kept connection, or over a new one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fd_router.errors import UpstreamError
from fd_router.http.connection_pool import InstancePool
from fd_router.http.heads import ResponseHead
from fd_router.http.upstream_connection import UpstreamConnection
from fd_router.http.upstream_contract import BodyTaker
from fd_router.http.write_batcher import Buffers


class UpstreamRequest:
    """What every ``Listener`` that sends a request has in common: it gets a connection, and sends over it.

    A subclass says what is sent (``_on_sending``), what becomes of the answer, and may note that a connection is being
    opened (``_on_connecting``). When it is made, it sets ``_connection`` and ``_connecting`` to None; before it is
    dispatched, ``_pool`` and ``_time_limit``. When it is told of a stale connection it calls ``_replace``; when its
    answer is complete it sets ``_connection`` to None, since that is the pool's again. There is one such object a
    request and instance, so it has no slots of its own: those that mix it in have them.
    """

    if not TYPE_CHECKING:  # which knows no mixin without slots of its own
        __slots__ = ()

    _pool: InstancePool  # of the instance that it goes to
    _connection: UpstreamConnection | None
    _connecting: asyncio.Task[None] | None
    _is_full: bool  # the answer is not to be read
    _time_limit: float  # for its first byte, in seconds, 0.0: the usual one

    def _dispatch(self) -> None:
        """Send to the instance of ``_pool``."""
        connection = self._pool.acquire()
        if connection is None:
            self._connection = None
            self._replace()
            return
        self._connection = connection  # as in _send, without a call
        connection.send(self, self._on_sending(), self._time_limit)
        if self._is_full:
            connection.pause()

    def _replace(self) -> None:
        """Send over a new connection: there is no kept one, or it turned out dead."""
        self._on_connecting()
        self._connecting = self._pool.connect(self._on_connected, self._on_unreachable, self.on_bug)

    def _cancel(self) -> None:
        """Close what there is at once, so that the instance stops working for nobody."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.cancel()

    def pause(self) -> None:
        """Read nothing of the answer for now, also of one that is still to come."""
        self._is_full = True
        self._pause_upstream()

    def resume(self) -> None:
        """Read it again."""
        self._is_full = False
        self._resume_upstream()

    def _pause_upstream(self) -> None:
        """Stop reading the answer."""
        if self._connection is not None:
            self._connection.pause()

    def _resume_upstream(self) -> None:
        """Read the answer again."""
        if self._connection is not None:
            self._connection.resume()

    @property
    def delivered_at(self) -> float:
        """When bytes of the answer came last, in the sweeper's seconds; 0.0: none is read now."""
        return self._connection.delivered_at if self._connection is not None else 0.0

    def _deliver_to(self, taker: BodyTaker) -> None:
        """Have the rest of the body, whose beginning ``on_head`` took, given to ``taker``, not to ``on_data``."""
        if self._connection is not None:
            self._connection.deliver_to(taker)

    def _on_connected(self, connection: UpstreamConnection) -> None:
        self._connecting = None
        self._send(connection)

    def _send(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        connection.send(self, self._on_sending(), self._time_limit)
        if self._is_full:
            connection.pause()

    def _on_unreachable(self, error: UpstreamError) -> None:
        self._connecting = None
        self.on_failed(error, stale=False)

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        """The whole answer is there at once."""
        self._connection = None
        self.on_head(head, body)
        self.on_complete()

    # what a subclass may say

    def _on_connecting(self) -> None:
        """A new connection is about to be opened."""

    # what a subclass says

    def _on_sending(self) -> bytes | Buffers:
        """There is a connection: return the request, head and body, which is sent now."""
        raise NotImplementedError

    def on_head(self, head: ResponseHead, body: bytes) -> None:
        """Take the answer's head, and what came of its body."""
        raise NotImplementedError

    def on_data(self, data: bytes) -> None:
        """Take more of the body."""
        raise NotImplementedError

    def on_complete(self) -> None:
        """The answer is whole."""
        raise NotImplementedError

    def on_failed(self, error: UpstreamError, *, stale: bool) -> None:
        """The answer won't come, or won't end."""
        raise NotImplementedError

    def on_bug(self, error: Exception) -> None:
        """One of these raised: end, and tell whoever waits."""
        raise NotImplementedError
