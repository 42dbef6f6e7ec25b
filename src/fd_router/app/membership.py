"""The part of the composition root that builds the fleet: its registry, and who probes its members."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from fd_router.app.runtime import Run, Runtime
from fd_router.config.connections import read_connections
from fd_router.engines.dialects import open_dialects
from fd_router.engines.pairing import Question
from fd_router.http.connection_pool import Pools
from fd_router.http.fetch import fetch
from fd_router.http.instance_access import PLAIN
from fd_router.instances.access_rules import AccessRules
from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.dialect_detector import METRICS, DialectDetector
from fd_router.instances.instance import Instance
from fd_router.instances.load_pages import metrics_address, other_address
from fd_router.instances.model_prober import ModelProber
from fd_router.instances.pair_learner import PairLearner
from fd_router.instances.probe_connection import ProbeConnections
from fd_router.instances.prober import HealthMonitor
from fd_router.instances.registry import Registry
from fd_router.instances.reserve_log import ReserveLog


class Membership(msgspec.Struct, frozen=True):
    """The fleet's members and their health."""

    registry: Registry
    monitor: HealthMonitor
    model_prober: ModelProber
    runs: Sequence[Run]


def build_membership(runtime: Runtime, pools: Pools) -> Membership:
    """Build a registry without members. Raises ConfigError for a dialect, or a file of keys, that can't be had."""
    live, metrics = runtime.live, runtime.telemetry.metrics
    dialects = open_dialects(live.current.instances)
    access = AccessRules(read_connections(live.current.instances, live.current.tls))
    registry = Registry(clock=runtime.clock, log=runtime.log, live=live, dialects=dialects, access=access)
    registry.on_change(partial(_retire, pools))
    registry.on_removed(lambda instance: metrics.forget_instance(instance.url))
    registry.on_change(ReserveLog(runtime.log, runtime.loop.call_later).on_change)
    metrics.watch_instances(registry.all)
    probes = ProbeConnections(registry, pools)
    model_prober = ModelProber(registry, probes.get_page, live)
    monitor = HealthMonitor(
        registry,
        probes.get_status,
        clock=runtime.clock,
        rng=runtime.rng,
        live=live,
        log=runtime.log,
        learn=model_prober.learn,
        delivered_at=pools.delivered_at,
    )
    runs = [_detector(runtime, registry, pools).run, model_prober.run]
    if live.current.server.splitwise:
        runs.append(_pair_learner(runtime, registry, pools).run)
    return Membership(registry, monitor, model_prober, runs)


def _detector(runtime: Runtime, registry: Registry, pools: Pools) -> DialectDetector:
    async def get(instance: Instance, path: str) -> tuple[int, bytes]:
        time_limit = runtime.live.current.manager.health_check_timeout_secs
        pool = pools.single_use(metrics_address(instance) if path == METRICS else instance)  # once: nothing to keep
        return await fetch(pool, "GET", path, time_limit=time_limit)

    return DialectDetector(registry, get, runtime.live, log=runtime.log)


def _pair_learner(runtime: Runtime, registry: Registry, pools: Pools) -> PairLearner:
    async def ask(instance: Instance, question: Question) -> tuple[int, bytes]:
        time_limit = runtime.live.current.manager.health_check_timeout_secs
        pool = pools.single_use(other_address(instance, question.port, PLAIN))  # a server of its own, without TLS
        return await fetch(pool, "GET", question.path, time_limit=time_limit)

    return PairLearner(registry, ask, log=runtime.log)


def _retire(pools: Pools, change: Change) -> None:
    """Keep no connection to an instance that is no member any more, or is spoken to in another way now.

    When one is added, whoever still had the one before at its address may have spoken to that since it was removed.
    """
    if change.kind in (ChangeKind.REMOVED, ChangeKind.ACCESS, ChangeKind.ADDED):
        pools.retire(change.instance.key)
        pools.retire(metrics_address(change.instance).key)  # the same, mostly
