"""The part of the composition root that builds what protects instances and requests."""

from __future__ import annotations

import random
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

import msgspec

from fd_router.capacity.breaker import TripLimits
from fd_router.capacity.breakers import BreakerOptions, Breakers
from fd_router.capacity.count_audit import CountAuditor
from fd_router.capacity.headroom import Headroom
from fd_router.capacity.limits import Limits
from fd_router.capacity.slow_start import SlowStart
from fd_router.config.capacity import ProtectionConfig
from fd_router.config.live import LiveConfig
from fd_router.http.connection_pool import Pools
from fd_router.http.server_context import ServerState
from fd_router.instances.load_scraper import OnCount
from fd_router.instances.registry import Registry
from fd_router.routing.watchdog import Watchdog
from fd_router.telemetry.metrics.capacity import ProtectionMetrics
from fd_router.telemetry.telemetry import Telemetry


class _Running(Protocol):
    """A part that runs as long as the router does."""

    async def run(self) -> None:
        """Run until cancelled."""


class Capacity(msgspec.Struct, frozen=True):
    """How much instances are given: ``headroom`` tells when one may have one more request.

    ``on_count`` takes what engines say of the requests they have.
    """

    headroom: Headroom
    on_count: OnCount | None
    running: tuple[_Running, ...]
    live: LiveConfig

    def tasks(self, state: ServerState) -> Sequence[Coroutine[Any, Any, None]]:
        """Return what must run as long as the router does."""
        running = list(self.running)
        if self.live.current.protection.ledger_interval_secs:
            running.append(Watchdog(state.proxied_requests, self.live, time.monotonic))
        return [part.run() for part in running]


def build_capacity(
    live: LiveConfig, registry: Registry, pools: Pools, telemetry: Telemetry, rng: random.Random
) -> Capacity:
    """Build what the options ask for."""
    options, metrics, headroom = live.current.protection, ProtectionMetrics(), Headroom()
    limits = Limits(registry, headroom, options.max_requests_per_instance)
    running: list[_Running] = []
    if options.breaker_failures or options.breaker_failure_percent:
        breakers = _build_breakers(options, registry, limits, telemetry, rng, metrics)
        metrics.circuits = breakers.circuits
        running.append(breakers)
    if options.slow_start_secs:
        running.append(SlowStart(registry, limits, options.slow_start_secs, clock=time.monotonic))
    auditor = _build_auditor(options, registry, pools, telemetry, metrics) if options.ledger_interval_secs else None
    if auditor is not None:
        metrics.gaps = auditor.gaps
        running.append(auditor)
    telemetry.metrics.show(metrics)
    registry.on_removed(lambda instance: metrics.forget(instance.url))
    return Capacity(headroom, auditor.compare if auditor is not None else None, tuple(running), live)


def _build_auditor(
    options: ProtectionConfig, registry: Registry, pools: Pools, telemetry: Telemetry, metrics: ProtectionMetrics
) -> CountAuditor:
    return CountAuditor(
        registry.all,
        lambda instance: pools.busy(instance.key),
        clock=time.monotonic,
        log=telemetry.log,
        counters=metrics,
        interval=options.ledger_interval_secs,
    )


def _build_breakers(
    options: ProtectionConfig,
    registry: Registry,
    limits: Limits,
    telemetry: Telemetry,
    rng: random.Random,
    metrics: ProtectionMetrics,
) -> Breakers:
    trip = TripLimits(
        options.breaker_failures,
        options.breaker_failure_percent / 100,
        options.breaker_min_requests,
        options.breaker_window_secs,
    )
    share = options.min_serving_percent / 100
    return Breakers(
        registry,
        limits,
        BreakerOptions(trip, options.breaker_open_secs, options.breaker_max_open_secs, share),
        clock=time.monotonic,
        rng=rng,
        log=telemetry.log,
        counters=metrics,
    )
