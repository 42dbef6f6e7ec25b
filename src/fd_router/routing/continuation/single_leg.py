"""The instance that goes on with a stream, in a centralized fleet."""

from __future__ import annotations

from collections.abc import Callable

from fd_router.errors import Retry, UpstreamError
from fd_router.http.connection_pool import Pools
from fd_router.http.heads import ResponseHead
from fd_router.http.messages import Request
from fd_router.http.upstream_request import UpstreamRequest
from fd_router.http.write_batcher import Buffers
from fd_router.instances.instance import Instance
from fd_router.routing.continuation.contracts import LegListener
from fd_router.routing.request import report_failure, tell_status
from fd_router.scheduling.ranks import RankReservation
from fd_router.scheduling.reservation import Reservation
from fd_router.spliced_body import Body


class SingleLeg(UpstreamRequest):
    """One request with what was generated, to one instance: a ``Listener`` of the connection there."""

    __slots__ = (
        "_body", "_connecting", "_connection", "_has_begun", "_is_full", "_pool", "_release", "_request", "_stream",
        "_time_limit", "_who", "engine_id", "reservation",
    )  # fmt: skip

    def __init__(
        self,
        stream: LegListener,
        reservation: Reservation[Instance],
        pools: Pools,
        request: Request,
        body: Body,
        release: Callable[[Reservation[Instance]], None],
        who: str,
    ) -> None:
        """``who``: as instances' breakers know the client."""
        self.reservation = reservation
        self.engine_id = ""
        self._stream = stream
        self._pool = pools.of(reservation.instance)
        self._request = request
        self._body = body
        self._release = release
        self._who = who
        self._time_limit = 0.0
        self._has_begun = False
        self._is_full = False
        self._connection = self._connecting = None

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The one that was chosen."""
        return (self.reservation.instance,)

    def start(self) -> None:
        """Send the request."""
        self._dispatch()

    def cancel(self) -> None:
        """Close the connection, and give the counts back."""
        try:
            self._cancel()
        finally:
            self._release(self.reservation)

    # what the connection calls

    def on_head(self, head: ResponseHead, body: bytes) -> None:
        """Begin, unless the instance refuses."""
        instance, status = self.reservation.instance, head.status
        if status >= 300:
            self._refused(instance, head)
            return
        if (breaker := instance.breaker) is not None:
            breaker.answered(status)
        self._has_begun = True
        self.reservation.first_token()
        self.reservation.prefill_done()
        self._stream.on_leg_begun(self, head)
        if body:
            self._stream.on_leg_data(self, body)

    def on_data(self, data: bytes) -> None:
        """Hand more of it on."""
        self._stream.on_leg_data(self, data)

    def on_complete(self) -> None:
        """The answer is whole."""
        self._connection = None
        if self._has_begun:
            self._stream.on_leg_complete(self)

    def on_failed(self, error: UpstreamError, *, stale: bool) -> None:
        """Replace a kept connection that turned out dead, or say that the instance failed."""
        self._connection = None
        if stale:
            self._replace()
            return
        instance = self.reservation.instance
        report_failure(instance, error, held_up=self._is_full, begun=self._has_begun)
        self._stream.on_leg_failed(self, instance, error)

    def on_bug(self, error: Exception) -> None:
        """Have the request end."""
        self._stream.on_bug(error)

    def _on_sending(self) -> bytes | Buffers:
        pool, reservation = self._pool, self.reservation
        host = reservation.line + pool.host if isinstance(reservation, RankReservation) else pool.host
        return pool.message(self._request, host, self._body)

    def _refused(self, instance: Instance, head: ResponseHead) -> None:
        status = head.status
        tell_status(instance, head, self._who)
        reason = "busy" if status in instance.dialect.busy_statuses else "error_answer"
        error = UpstreamError(reason, f"status {status}", instance=instance.url, retry=Retry.NEVER, status=status)
        self._stream.on_leg_failed(self, instance, error)

    def __repr__(self) -> str:
        return f"<SingleLeg {self.reservation.instance.url}>"
