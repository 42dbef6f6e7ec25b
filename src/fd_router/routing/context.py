"""What a forwarding is given: what all of them share, and the client's connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from fd_router.admission.api_key_gate import Gate
from fd_router.config.loading import ProxyConfig
from fd_router.errors import HttpError
from fd_router.instances.instance import Instance
from fd_router.routing.in_flight import InFlight
from fd_router.routing.request_queue import Line
from fd_router.http.connection_pool import Pools
from fd_router.openai.completion import Completion
from fd_router.telemetry.telemetry import Telemetry


class Client(Protocol):
    """The connection a request came on, as its forwarding uses it."""

    def write(self, data: bytes) -> None:
        """Send bytes of the answer."""

    def respond_error(self, error: HttpError) -> None:
        """Send a whole error answer."""

    def complete(self, *, keep_alive: bool) -> None:
        """The answer has been written to its end; the connection may serve the next request."""

    def cut_off(self, *, delimited: bool) -> None:
        """End the connection so that the client sees that the answer is not whole."""


Prepare = Callable[[Completion], Awaitable[None] | None]
"""Makes a completion ready for its selection: at once (None), or by being awaited. Never fails."""


class Services:
    """What every forwarding needs, built once."""

    __slots__ = (
        "clock", "connection_failed", "gate", "in_flight", "line", "max_attempts", "pools", "prepare",
        "telemetry", "tells_decisions",
    )  # fmt: skip

    def __init__(
        self,
        connection_failed: Callable[[Instance, str], None],
        pools: Pools,
        telemetry: Telemetry,
        clock: Callable[[], float],
        max_attempts: int,
        in_flight: InFlight | None = None,
    ) -> None:
        self.in_flight = InFlight() if in_flight is None else in_flight
        self.connection_failed = connection_failed
        self.pools = pools
        self.telemetry = telemetry
        self.clock = clock
        self.max_attempts = max_attempts
        self.prepare: Prepare | None = None  # what must happen before a selection
        self.line: Line | None = None  # where requests wait for room
        self.gate: Gate | None = None  # where requests show their API keys
        self.tells_decisions = "off"  # "off", to those that ask ("request"), or "always"

    def use(self, settings: ProxyConfig) -> None:
        """Go by other limits from the next request on."""
        self.max_attempts = settings.max_attempts
