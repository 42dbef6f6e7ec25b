"""The two ends of one request on a client's connection: the stream it is answered on, and who answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from fd_router.errors import HttpError
from fd_router.http.heads import ResponseHead
from fd_router.http.messages import Request
from fd_router.telemetry.record import RequestRecord


class BodyOutlet(Protocol):
    """Where an answer's body goes to."""

    def write(self, data: bytes) -> None:
        """Take more of it."""


class _Nowhere:
    """An outlet of what nobody gets."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        """Take it."""


NOWHERE: Final = _Nowhere()


class ClientStream(Protocol):
    """What an instance's answer is sent on to its client, whatever version of HTTP the client speaks.

    Either one ``send_head`` and then bodies until ``end`` or ``reset``; or one ``send_error``.
    """

    @property
    def outlet(self) -> BodyOutlet:
        """Who takes more of the body, framed as it came. To be asked for behind the head; the same from then on."""

    def send_head(self, head: ResponseHead, body: bytes, extra: bytes = b"") -> None:
        """Send an instance's head with ``extra`` header lines, and what of the body came with it."""

    def send_event(self, event: bytes, last: bytes) -> bool:
        """Send one more server-sent event behind the instance's, and nothing more of it: what is left is ``end``.

        ``last`` is what came of the body last. Returns False, and sends nothing, when no event can follow that.
        """

    def send_error(self, error: HttpError) -> None:
        """Send a whole error answer, and end."""

    def end(self) -> None:
        """The answer has been sent to its end; the connection may serve the next request."""

    def reset(self) -> None:
        """End in mid-answer, so that the client sees that it isn't whole."""

    def abandon(self) -> None:
        """End at once, however far the answer has come: one of the others raised."""


class Responder(Protocol):
    """An answer under way, told what happens to its client."""

    def on_client_gone(self) -> None: ...
    def on_write_paused(self) -> None: ...
    def on_write_resumed(self) -> None: ...


class ProxiedRequest(Responder, Protocol):
    """A request that is answered by an instance."""

    record: RequestRecord

    @property
    def bytes_sent(self) -> int:
        """Bytes of the answer handed to the client's connection so far."""

    @property
    def waits_until(self) -> float:
        """Until when it may wait in the queue, in monotonic seconds; 0.0: it doesn't wait there."""

    def start(self) -> None:
        """Begin, now that the connection knows who answers."""

    def on_bug(self, error: Exception) -> None:
        """A bug was met on its way: end."""

    def on_overdue(self, seconds: float) -> None:
        """Nothing has happened for so long: end."""

    def on_instance_dead(self, key: str, why: str) -> bool:
        """The instance with ``key`` is dead: go elsewhere, if it is to answer. Returns whether it did."""

    def on_timed_out(self, seconds: float) -> None:
        """It has taken so long as a request may: end."""


StartRequest = Callable[[Request, ClientStream, RequestRecord], ProxiedRequest]
"""Makes whoever has a request answered by an instance."""
