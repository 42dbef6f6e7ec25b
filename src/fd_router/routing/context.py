"""The routing context: what every routed request is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from fd_router.admission.api_key_gate import ApiKeyGate
from fd_router.config.live import LiveConfig
from fd_router.http.connection_pool import Pools
from fd_router.instances.instance import Instance
from fd_router.openai.completion import Completion
from fd_router.openai.endpoints import Endpoint
from fd_router.routing.continuation.keeper import StreamKeeper
from fd_router.routing.in_flight import InFlight
from fd_router.routing.model_route import ModelSwitch
from fd_router.routing.precedence import PrecedenceReader
from fd_router.routing.request_queue import RequestQueue
from fd_router.telemetry.telemetry import Telemetry

Prepare = Callable[[Completion], Awaitable[None] | None]
"""Makes a completion ready for its selection: at once (None), or by being awaited. Never fails."""


def _no_hope() -> float:
    """Without a prober there is no probe to wait for."""
    return 0.0


class RoutingContext(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What every routed request needs, complete when it is built. What a reload may change is read from ``live``."""

    endpoint: Endpoint  # of its requests
    live: LiveConfig
    connection_failed: Callable[[Instance, str], None]
    pools: Pools
    telemetry: Telemetry
    clock: Callable[[], float]
    in_flight: InFlight
    hope_secs: Callable[[], float] = _no_hope  # how long a probe may take that may bring an instance back; 0: none
    prepare: Prepare | None = None  # what must happen before a selection
    queue: RequestQueue | None = None  # where requests wait for room
    streams: StreamKeeper | None = None  # that survive their instance
    gate: ApiKeyGate | None = None  # where requests show their API keys
    models: ModelSwitch = msgspec.field(default_factory=ModelSwitch)  # whether several models have to be told apart
    precedence: PrecedenceReader | None = None  # where a policy lets requests wait by it
    tells_totals: bool = False  # whether policies are told how many tokens prompt and answer have: it is recorded
    explain_header: str = "off"  # "off", to those that ask ("request"), or "always"
