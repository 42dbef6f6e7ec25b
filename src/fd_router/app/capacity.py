"""The part of the composition root that builds what protects instances and requests."""

from __future__ import annotations

import random
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from fd_router.capacity.breaker import TripLimits
from fd_router.capacity.breakers import BreakerOptions, Breakers
from fd_router.capacity.count_audit import CountAuditor
from fd_router.capacity.headroom import Headroom
from fd_router.capacity.limits import Limits
from fd_router.capacity.slow_start import SlowStart
from fd_router.config.live import LiveConfig
from fd_router.http.connection_pool import Pools
from fd_router.http.server_context import ServerState
from fd_router.instances.registry import Registry
from fd_router.routing.watchdog import Watchdog
from fd_router.telemetry.metrics.capacity import ProtectionMetrics
from fd_router.telemetry.telemetry import Telemetry


class ProtectionParts:
    """``headroom`` tells when an instance may have one more request."""

    def __init__(
        self, live: LiveConfig, registry: Registry, pools: Pools, telemetry: Telemetry, rng: random.Random
    ) -> None:
        self._live = live
        self._options = options = live.current.protection
        self._registry = registry
        self._metrics = ProtectionMetrics()
        self.headroom = Headroom()
        self._limits = Limits(registry, self.headroom, options.max_requests_per_instance)
        self._breakers = self._make_breakers(telemetry, rng)
        if self._breakers is not None:
            self._metrics.circuits = self._breakers.circuits
        seconds = options.slow_start_secs
        self._slow_start = SlowStart(registry, self._limits, seconds, clock=time.monotonic) if seconds else None
        self._ledger = self._make_ledger(pools, telemetry) if options.ledger_interval_secs else None
        self.on_count = self._ledger.compare if self._ledger is not None else None
        telemetry.metrics.show(self._metrics)
        registry.on_removed(lambda instance: self._metrics.forget(instance.url))

    def tasks(self, state: ServerState) -> Sequence[Coroutine[Any, Any, None]]:
        """Return what must run as long as the router does."""
        interval = self._options.ledger_interval_secs
        sweep = Watchdog(state.proxied_requests, self._live, time.monotonic) if interval else None
        parts = (self._breakers, self._slow_start, self._ledger, sweep)
        return [part.run() for part in parts if part is not None]

    def _make_ledger(self, pools: Pools, telemetry: Telemetry) -> CountAuditor:
        ledger = CountAuditor(
            self._registry.all,
            lambda instance: pools.busy(instance.key),
            clock=time.monotonic,
            log=telemetry.log,
            counters=self._metrics,
            interval=self._options.ledger_interval_secs,
        )
        self._metrics.gaps = ledger.gaps
        return ledger

    def _make_breakers(self, telemetry: Telemetry, rng: random.Random) -> Breakers | None:
        options = self._options
        if not (options.breaker_failures or options.breaker_failure_percent):
            return None
        trip = TripLimits(
            options.breaker_failures,
            options.breaker_failure_percent / 100,
            options.breaker_min_requests,
            options.breaker_window_secs,
        )
        return Breakers(
            self._registry,
            self._limits,
            BreakerOptions(
                trip, options.breaker_open_secs, options.breaker_max_open_secs, options.min_serving_percent / 100
            ),
            clock=time.monotonic,
            rng=rng,
            log=telemetry.log,
            counters=self._metrics,
        )
