"""A centralized fleet: one request, one instance, or another one as long as no byte of an answer has come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from fd_router.config.live import LiveConfig
from fd_router.errors import NoInstanceError, Retry, SaturatedError, UpstreamError
from fd_router.http.client_stream import ClientStream
from fd_router.http.connection_pool import InstancePool, Pools
from fd_router.http.heads import ResponseHead, request_message
from fd_router.http.messages import Request
from fd_router.http.upstream_request import UpstreamRequest
from fd_router.http.write_batcher import Buffers
from fd_router.instances.instance import Health, Instance
from fd_router.routing.context import RoutingContext
from fd_router.routing.in_flight import InFlight
from fd_router.routing.request import RoutedRequest
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.reservation import Reservation
from fd_router.telemetry.record import RequestRecord
from fd_router.telemetry.telemetry import Telemetry

Select = Callable[[RequestView, Collection[str]], Reservation[Instance]]
"""(request, keys of instances tried) → the instance, counted. Raises NoInstanceError."""


class SingleContext(RoutingContext):
    """What every exchange needs, built once."""

    __slots__ = ("select",)

    def __init__(
        self,
        select: Select,
        connection_failed: Callable[[Instance, str], None],
        pools: Pools,
        telemetry: Telemetry,
        clock: Callable[[], float],
        live: LiveConfig,
        in_flight: InFlight | None = None,
    ) -> None:
        super().__init__(connection_failed, pools, telemetry, clock, live, in_flight)
        self.select = select


class SingleInstanceRequest(UpstreamRequest, RoutedRequest):
    """Forwards one request to one instance: a ``Listener`` of the connection there."""

    __slots__ = ("_awaited", "_connecting", "_connection", "_decision", "_pool", "_select", "_time_limit")

    def __init__(self, services: SingleContext, request: Request, client: ClientStream, record: RequestRecord) -> None:
        RoutedRequest.__init__(self, services, request, client, record)  # by name: super() costs a look-up more
        self._select = services.select
        self._decision: Reservation[Instance] | None = None
        self._connection = self._connecting = None
        self._awaited: InstancePool | None = None  # of the instance that it is to be sent to, when its policy says so

    def instances(self) -> tuple[Instance, ...]:
        """Return the instance that works on the request now."""
        is_sent = self._decision is not None and self._ticket is None and self._awaited is None
        return (self._decision.instance,) if is_sent and self._decision is not None else ()

    # one attempt

    def _attempt(self) -> None:
        completion, record = self._completion, self.record
        if completion is None:
            return
        self._decision = decision = self._select(completion, self._tried)
        instance = decision.instance
        record.attempts += 1
        record.mixed = instance.url
        self._notes.append(f"select worker (mixed): {instance.url}, count: {instance.running}")
        pool = self._services.pools.of(instance)
        if decision.tracker is not None and decision.hold(self._be_sent_soon):
            self._awaited = pool
            pool.awaited += 1
            self._notes.append(f"waits in the router until {instance.url} can begin with it")
        else:
            self._dispatch(pool)

    def _be_sent_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._on_due)  # what goes wrong here is not the caller's concern

    def _on_due(self) -> None:
        """The policy says that the request is to be sent now: there, or, if nothing may go there, somewhere else."""
        pool, decision = self._awaited, self._decision
        if pool is None or decision is None:
            return
        self._stop_waiting()
        if decision.instance.takes_new and not pool.retired:
            self._dispatch(pool)
        else:
            self._go_elsewhere(decision, pool)

    def _go_elsewhere(self, decision: Reservation[Instance], pool: InstancePool) -> None:
        """Choose again for a request that waited; where nobody else is there, it goes where it was to go, if it can."""
        self.record.attempts -= 1  # nothing was sent
        try:
            self._attempt()
        except NoInstanceError:
            if decision.instance.health is Health.UNHEALTHY or pool.retired:
                self._release(decision)
                self._begin()
            else:
                self.record.attempts += 1
                self._dispatch(pool)
        else:
            self._release(decision)
            self._log_notes()

    def _stop_waiting(self) -> None:
        if self._awaited is not None:
            self._awaited.awaited -= 1
            self._awaited = None

    def _message(self) -> bytes | Buffers:
        return request_message(self._request, self._pool.authority, self._request.body)

    def _release_all(self) -> None:
        self._stop_waiting()
        if self._connection is not None or self._connecting is not None:
            self._cancel()
        if self._decision is not None:
            self._release(self._decision)

    # what the instance's connection calls

    def on_head(self, head: ResponseHead, body: bytes) -> None:
        """Pass the head on, with what came of the body."""
        record = self.record
        record.first_byte_at = self._services.clock()
        record.status = head.status
        if body and record.stream:
            self._on_first_data()
        self._write_head(head, body)
        if (decision := self._decision) is not None:
            if (breaker := decision.instance.breaker) is not None:
                breaker.answered(head.status)
            if decision.wants_usage:
                self._watch_usage(body)

    def on_data(self, data: bytes) -> None:
        """Pass more of the body on."""
        record = self.record
        if not record.bytes_out:
            record.first_byte_at = self._services.clock()  # engines send a stream's head before its first token
            if record.stream:
                self._on_first_data()
        record.bytes_out += len(data)
        self._tail = data
        self._relay(data)

    def on_complete(self) -> None:
        """The instance's answer is whole, and so is the client's."""
        self._connection = None
        if self._usage is not None and self._decision is not None:
            self._tell_usage(self._decision)
        self._end("completed")

    def on_failed(self, error: UpstreamError, *, stale: bool) -> None:
        """The instance's answer won't come (try elsewhere) or broke off (let the client see it)."""
        self._connection = None
        if stale:
            self._replace()
        elif not self.record.first_byte_at:
            self._on_attempt_failed(error)
        else:
            if self._decision is not None:
                self._blame(self._decision.instance, error, begun=self.record.status < 400)
            self._log_error(f"scanner error: {error.instance}: {error.detail}")
            self._end("failed")

    def on_bug(self, error: Exception) -> None:
        """A bug was met on the way: end."""
        RoutedRequest.on_bug(self, error)

    # steps

    def _on_first_data(self) -> None:
        """A stream's first token came: the prefill is done."""
        if self._decision is not None:
            if self.record.status < 400:
                self._decision.first_token()
            self._prefill_done(self._decision)
            self._log_notes()

    def _on_attempt_failed(self, error: UpstreamError) -> None:
        """An attempt failed before any byte of an answer came."""
        decision, services, record = self._decision, self._services, self.record
        if decision is None:
            return
        attempt = f"attempt {record.attempts}/{services.live.current.proxy.max_attempts}"
        self._blame(decision.instance, error)
        self._log_error(f"Request failed ({attempt}): {error.instance}: {error.detail}")
        self._release(decision)
        if error.retry is Retry.ALWAYS:
            services.connection_failed(decision.instance, error.reason)
            if self._exclude(decision.instance, error.reason):
                self._retry(error)
                return
        self._fail_locally(error)

    def _blame(self, instance: Instance, error: UpstreamError, *, begun: bool = False) -> None:
        """Count a failure of ``instance``, unless it only waited for a client that took nothing."""
        self._telemetry.metrics.upstream_failed(error.instance, error.reason)
        if not (self._is_full and error.reason == "stalled"):
            instance.failed(error.reason, begun=begun)

    def _retry(self, error: UpstreamError) -> None:
        try:
            self._attempt()
        except SaturatedError:
            self._telemetry.metrics.retried(error.reason)
            self._wait_again(error)
        except NoInstanceError:  # the failed one was the last: its failure says more
            self._fail_locally(error)
        else:
            self._log_notes()
            self._telemetry.metrics.retried(error.reason)
