"""How a client's connection ends: in mid-answer, gently, soon, or at once."""

from __future__ import annotations

import asyncio

from fd_router.http.client_stream import ProxiedRequest, Responder
from fd_router.http.messages import Request
from fd_router.http.request_reader import IDLE, RequestReader
from fd_router.http.reset import reset
from fd_router.http.server_context import ServerContext, ServerState

LINGER_SECONDS = 2.0
"""How long a refused client may go on sending before it is cut off.

Closing while it still sends would reset the connection, and the client would lose the error it should read.
"""

LAST_CALL_SECONDS = 1.0
"""How long an idle connection of a draining router may still bring a request.

One that is closed at once may have a request on its way, which would be lost; a busy client never pauses so long.
"""


class ClosableConnection(asyncio.Protocol):
    """What of a client's connection concerns its end. It has no ``__init__``: ``ServerConnection`` sets all of it."""

    __slots__ = (
        "_answer", "_context", "_is_lingering", "_reader", "_request", "_state", "_transport", "deadline", "proxied",
    )  # fmt: skip

    _context: ServerContext
    _state: ServerState
    _reader: RequestReader
    _transport: asyncio.Transport
    _request: Request | None  # the one being answered
    _answer: Responder | None  # who answers it, if that isn't over when it has begun
    _is_lingering: bool  # what comes isn't read any more
    proxied: ProxiedRequest | None  # the same as ``_answer``, if an instance answers
    deadline: float

    def evict(self) -> bool:
        """Close, unless a request is being answered or waits for its answer. Returns whether it does."""
        if self._request is not None or self._reader.ready or self._transport.is_closing():
            return False
        self._state.connections.discard(self)  # now: more may come before the loop tells that it is closed
        self._transport.abort()
        return True

    @property
    def is_unproven(self) -> bool:
        """Whether it has brought no whole request yet, or is in the middle of one."""
        return not self._reader.head_at or self._reader.state != IDLE

    @property
    def is_idle(self) -> bool:
        """Whether no request is being received or answered, or waits in line."""
        return self._request is None and not self._reader.ready and self._reader.state == IDLE

    def cut_off(self, *, delimited: bool) -> None:
        """End the connection in mid-answer.

        A client that knows the answer's length or chunks sees that it isn't whole; another one sees it only
        when the connection is reset.
        """
        self._answer = self.proxied = None
        self._forget_request()
        self._reader.discard_ready()
        self._context.batcher.flush()
        if delimited:
            self._close()
        else:
            reset(self._transport)

    def _forget_request(self) -> None:
        """The request has been answered, or nobody waits for that: its bytes are no longer held."""
        request, self._request = self._request, None
        if request is not None:
            self._state.budget.held -= len(request.body)

    def on_close_idle(self) -> None:
        """Close soon, unless a request is under way or comes."""
        if not self.is_idle or self._transport.is_closing():
            return
        self._context.batcher.flush()
        if self._transport.get_write_buffer_size():  # its client is still taking the last answer
            self._close()
        else:
            self.deadline = min(self.deadline, self._context.sweeper.now + LAST_CALL_SECONDS)

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        if self._request is not None:
            reset(self._transport)
        else:
            self._transport.abort()

    def _close(self) -> None:
        """Close once everything is sent, which a client that takes nothing may put off, but not for ever."""
        self.deadline = self._state.idle_due
        self._transport.close()

    def _close_gently(self) -> None:
        """Send what is written, then close; don't reset a client that is still sending."""
        self._reader.discard_ready()
        self._context.batcher.flush()
        if self._reader.state == IDLE and not self._reader.is_refused:
            self._close()
            return
        self._is_lingering = True
        self.deadline = self._context.sweeper.now + LINGER_SECONDS
        if self._transport.can_write_eof():
            self._transport.write_eof()
