"""The two ends of one request on a client's connection: the stream it is answered on, and who answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fd_router.errors import HttpError
from fd_router.http.messages import Request
from fd_router.telemetry.record import RequestRecord


class ClientStream(Protocol):
    """The connection a request came on, as whoever answers the request uses it."""

    def write(self, data: bytes) -> None:
        """Send bytes of the answer."""

    def respond_error(self, error: HttpError) -> None:
        """Send a whole error answer."""

    def complete(self, *, keep_alive: bool) -> None:
        """The answer has been written to its end; the connection may serve the next request."""

    def cut_off(self, *, delimited: bool) -> None:
        """End the connection so that the client sees that the answer is not whole."""


class Responder(Protocol):
    """An answer under way, told what happens to its client."""

    def on_client_gone(self) -> None: ...
    def on_write_paused(self) -> None: ...
    def on_write_resumed(self) -> None: ...
    def on_drain(self) -> None: ...


class ProxiedRequest(Responder, Protocol):
    """A request that is answered by an instance."""

    record: RequestRecord

    @property
    def waits_until(self) -> float:
        """Until when it may wait in the queue, in monotonic seconds; 0.0: it doesn't wait there."""

    def start(self) -> None:
        """Begin, now that the connection knows who answers."""

    def on_overdue(self, seconds: float) -> None:
        """Nothing has happened for so long: end."""


StartRequest = Callable[[Request, ClientStream, RequestRecord], ProxiedRequest]
"""Makes whoever has a request answered by an instance."""
