"""The part of the composition root that builds what protects instances and requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import msgspec

from fd_router.app.link import Link
from fd_router.app.runtime import Run, Runtime
from fd_router.capacity.breaker import Circuit, TripLimits
from fd_router.capacity.breakers import BreakerOptions, Breakers
from fd_router.capacity.cooling import Cooling
from fd_router.capacity.count_audit import CountAuditor
from fd_router.capacity.headroom import Headroom
from fd_router.capacity.limits import Limits
from fd_router.capacity.progress import Progress
from fd_router.capacity.shared_trials import SharedTrials
from fd_router.capacity.slow_start import SlowStart
from fd_router.capacity.ticking import tick_together
from fd_router.config.capacity import ProtectionConfig
from fd_router.http.connection_pool import Pools
from fd_router.instances.instance import Instance
from fd_router.instances.registry import Registry
from fd_router.telemetry.metrics.capacity import ProtectionCounters, ProtectionMetrics


class Capacity(msgspec.Struct, frozen=True):
    """``headroom`` tells when an instance may have one more request; ``on_count`` takes an engine's own count."""

    headroom: Headroom
    circuits: Callable[[], Iterable[tuple[Instance, Circuit]]]
    on_count: Callable[[Instance, float, int], None] | None
    runs: Sequence[Run]


def build_capacity(runtime: Runtime, registry: Registry, pools: Pools, link: Link | None) -> Capacity:
    """Build limits, breakers, slow start and the audit of counts, those that are asked for."""
    options = runtime.live.current.protection
    counters = ProtectionCounters()
    headroom = Headroom()
    limits = Limits(registry, headroom, options.max_requests_per_instance)
    breakers = _build_breakers(runtime, registry, limits, counters, link)
    cooling = Cooling(registry, headroom.notify, min_share=options.min_serving_percent / 100, clock=runtime.clock)
    progress = Progress(
        registry,
        limits,
        pools.streaming,
        headroom.notify,
        min_share=options.min_serving_percent / 100,
        clock=runtime.clock,
        log=runtime.log,
    )
    seconds = options.slow_start_secs
    slow_start = SlowStart(registry, limits, seconds, clock=runtime.clock) if seconds else None
    auditor = _build_auditor(runtime, registry, pools, counters)
    circuits = breakers.circuits if breakers is not None else tuple
    runtime.telemetry.metrics.show(
        ProtectionMetrics(
            counters,
            circuits,
            auditor.gaps if auditor is not None else tuple,
        )
    )
    registry.on_removed(lambda instance: counters.forget(instance.url))
    ticking = [part for part in (breakers, cooling, slow_start) if part is not None]
    runs: list[Run] = [partial(tick_together, ticking), progress.run]
    if auditor is not None:
        runs.append(auditor.run)
    return Capacity(headroom, circuits, auditor.compare if auditor is not None else None, runs)


def _build_auditor(
    runtime: Runtime, registry: Registry, pools: Pools, counters: ProtectionCounters
) -> CountAuditor | None:
    interval = runtime.live.current.protection.ledger_interval_secs
    if not interval:
        return None
    return CountAuditor(
        registry.all,
        lambda instance: pools.busy(instance.key),
        clock=runtime.clock,
        log=runtime.log,
        counters=counters,
        interval=interval,
    )


def _build_breakers(
    runtime: Runtime, registry: Registry, limits: Limits, counters: ProtectionCounters, link: Link | None
) -> Breakers | None:
    options = runtime.live.current.protection
    if not (options.breaker_failures or options.breaker_failure_percent):
        return None
    breakers = Breakers(
        registry,
        limits,
        _breaker_options(options),
        clock=runtime.clock,
        rng=runtime.rng,
        log=runtime.log,
        counters=counters,
        trials=_trials(runtime, link) if link is not None else None,
    )
    if link is not None:
        link.trials.on_over = breakers.on_trial_elsewhere
    return breakers


def _trials(runtime: Runtime, link: Link) -> SharedTrials:
    return SharedTrials(link.bus, is_up=lambda: link.health.is_up, clock=runtime.clock, tell=link.trials.tell)


def _breaker_options(options: ProtectionConfig) -> BreakerOptions:
    trip = TripLimits(
        options.breaker_failures,
        options.breaker_failure_percent / 100,
        options.breaker_min_requests,
        options.breaker_window_secs,
    )
    return BreakerOptions(
        trip, options.breaker_open_secs, options.breaker_max_open_secs, options.min_serving_percent / 100
    )
