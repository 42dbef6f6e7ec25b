"""The routing context: what every routed request is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fd_router.admission.api_key_gate import ApiKeyGate
from fd_router.config.live import LiveConfig
from fd_router.http.connection_pool import Pools
from fd_router.instances.instance import Instance
from fd_router.openai.completion import Completion
from fd_router.routing.in_flight import InFlight
from fd_router.routing.request_queue import RequestQueue
from fd_router.telemetry.telemetry import Telemetry

Prepare = Callable[[Completion], Awaitable[None] | None]
"""Makes a completion ready for its selection: at once (None), or by being awaited. Never fails."""


class RoutingContext:
    """What every routed request needs, built once."""

    __slots__ = (
        "clock", "connection_failed", "gate", "in_flight", "line", "live", "pools", "prepare", "telemetry",
    )  # fmt: skip

    def __init__(
        self,
        connection_failed: Callable[[Instance, str], None],
        pools: Pools,
        telemetry: Telemetry,
        clock: Callable[[], float],
        live: LiveConfig,
        in_flight: InFlight | None = None,
    ) -> None:
        self.in_flight = InFlight() if in_flight is None else in_flight
        self.connection_failed = connection_failed
        self.pools = pools
        self.telemetry = telemetry
        self.clock = clock
        self.live = live
        self.prepare: Prepare | None = None  # what must happen before a selection
        self.line: RequestQueue | None = None  # where requests wait for room
        self.gate: ApiKeyGate | None = None  # where requests show their API keys
