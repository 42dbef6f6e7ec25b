"""A centralized fleet: one request, one instance, or another one as long as no byte of an answer has come."""

from __future__ import annotations

from collections.abc import Callable, Collection

from fd_router.errors import NoInstanceError, Retry, UpstreamError
from fd_router.instances.instance import Instance
from fd_router.messages import Request
from fd_router.proxy.forwarding import Client, Forwarding, Services
from fd_router.proxy.heads import ResponseHead, request_head
from fd_router.proxy.in_flight import InFlight
from fd_router.proxy.leg import Leg
from fd_router.proxy.pool import Pools
from fd_router.scheduling.contract import Decision, RequestView
from fd_router.telemetry.record import RequestRecord
from fd_router.telemetry.telemetry import Telemetry

Select = Callable[[RequestView, Collection[str]], Decision[Instance]]
"""(request, keys of instances tried) → the instance, counted. Raises NoInstanceError."""


class ExchangeServices(Services):
    """What every exchange needs, built once."""

    __slots__ = ("select",)

    def __init__(
        self,
        select: Select,
        connection_failed: Callable[[Instance, str], None],
        pools: Pools,
        telemetry: Telemetry,
        clock: Callable[[], float],
        max_attempts: int,
        in_flight: InFlight | None = None,
    ) -> None:
        super().__init__(connection_failed, pools, telemetry, clock, max_attempts, in_flight)
        self.select = select


class Exchange(Forwarding):
    """Forwards one request to one instance: a ``Listener`` of the connection there."""

    __slots__ = ("_decision", "_leg", "_select")

    def __init__(self, request: Request, client: Client, record: RequestRecord, services: ExchangeServices) -> None:
        super().__init__(request, client, record, services)
        self._select = services.select
        self._decision: Decision[Instance] | None = None
        self._leg: Leg | None = None

    def instances(self) -> tuple[Instance, ...]:
        """Return the instance that works on the request now."""
        return (self._decision.instance,) if self._decision is not None else ()

    # one attempt

    def _attempt(self) -> None:
        completion, record = self._completion, self.record
        if completion is None:
            return
        self._decision = decision = self._select(completion, self._tried)
        instance = decision.instance
        record.attempts += 1
        record.mixed = instance.url
        self._note(f"select worker (mixed): {instance.url}, count: {instance.running}")
        pool = self._services.pools.of(instance)
        body = self._request.body
        self._leg = leg = Leg(pool, self, request_head(self._request, pool.authority, len(body)), body)
        if self._is_full:
            leg.pause()
        leg.start()

    def _abandon(self) -> None:
        if self._leg is not None:
            self._leg.cancel()
            self._leg = None
        if self._decision is not None:
            self._release(self._decision)

    def _hold_up(self) -> None:
        if self._leg is not None:
            self._leg.pause()

    def _go_on(self) -> None:
        if self._leg is not None:
            self._leg.resume()

    # what the instance's connection calls

    def on_head(self, head: ResponseHead, body: bytes) -> None:
        """Pass the head on, with what came of the body."""
        self.record.first_byte_at = self._services.clock()
        if body:
            self._on_first_data()
        self._write_head(head, body)

    def on_data(self, data: bytes) -> None:
        """Pass more of the body on."""
        record = self.record
        if not record.bytes_out:
            record.first_byte_at = self._services.clock()  # engines send a stream's head before its first token
            self._on_first_data()
        record.bytes_out += len(data)
        self._tail = data
        self._relay(data)

    def on_complete(self) -> None:
        """The instance's answer is whole, and so is the client's."""
        self._leg = None
        self._end("completed")

    def on_failed(self, error: UpstreamError, *, stale: bool) -> None:
        """The instance's answer won't come (try elsewhere) or broke off (let the client see it)."""
        if stale and self._leg is not None:
            self._leg.replace()
        elif not self.record.first_byte_at:
            self._on_attempt_failed(error)
        else:
            telemetry = self._telemetry
            telemetry.metrics.upstream_failed(error.instance, error.reason)
            self._log_error(f"scanner error: {error.instance}: {error.detail}")
            self._end("failed")

    # steps

    def _on_first_data(self) -> None:
        if self.record.stream and self._decision is not None:
            self._prefill_done(self._decision)
            self._log_notes()

    def _on_attempt_failed(self, error: UpstreamError) -> None:
        """An attempt failed before any byte of an answer came."""
        decision, services, record, telemetry = self._decision, self._services, self.record, self._telemetry
        if decision is None:
            return
        attempt = f"attempt {record.attempts}/{services.max_attempts}"
        telemetry.metrics.upstream_failed(error.instance, error.reason)
        self._log_error(f"Request failed ({attempt}): {error.instance}: {error.detail}")
        self._release(decision)
        if error.retry is Retry.ALWAYS:
            services.connection_failed(decision.instance, error.reason)
            if record.attempts < services.max_attempts:
                self._retry(decision.instance, error)
                return
        self._refuse(error)

    def _retry(self, failed: Instance, error: UpstreamError) -> None:
        self._tried = (*self._tried, failed.key)
        self._leg = None
        try:
            self._attempt()
        except NoInstanceError:  # the failed one was the last: its failure says more
            self._refuse(error)
        else:
            self._log_notes()
            self._telemetry.metrics.retried(error.reason)
