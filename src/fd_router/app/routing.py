"""The part of the composition root that says how requests begin, and who ends those that nothing happens to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from fd_router.app.admission import Admission
from fd_router.app.endpoints import (
    Starter,
    Starters,
    all_instances_scheduler,
    any_instance_scheduler,
)
from fd_router.app.membership import Membership
from fd_router.app.runtime import Run, Runtime
from fd_router.app.scheduling import Scheduling
from fd_router.app.stored import stored_starters
from fd_router.http.client_stream import StartRequest
from fd_router.http.connection_pool import Pools
from fd_router.http.server_context import ServerState
from fd_router.instances.exclusions import left_out, why_none
from fd_router.instances.instance import Instance
from fd_router.instances.registry import Registry
from fd_router.openai.endpoints import Endpoint, Mode
from fd_router.routing.in_flight import InFlight
from fd_router.routing.pair import PairContext, PairRequest
from fd_router.routing.single import Select, SingleContext, SingleInstanceRequest
from fd_router.routing.total_time import TotalTimeLimit
from fd_router.routing.watchdog import Watchdog
from fd_router.scheduling.explanation import Verdict
from fd_router.scheduling.pairs import PairScheduler, Side
from fd_router.scheduling.scheduler import Scheduler

Explain = Callable[..., Sequence[Verdict]]
"""(request, draw) → a verdict for each role. Raises NoInstanceError."""


class Routing(msgspec.Struct, frozen=True):
    """How requests begin, by their endpoint's mode; who explains their choices; and those under way."""

    starters: Starters
    explain: Explain
    in_flight: InFlight
    runs: Sequence[Run]


def build_routing(
    runtime: Runtime,
    membership: Membership,
    pools: Pools,
    scheduling: Scheduling,
    admission: Admission,
    state: ServerState,
    make_id: Callable[[], str],
) -> Routing:
    """Build what routes requests, to pairs in splitwise mode, else to single instances."""
    config, in_flight, registry = runtime.live.current, InFlight(), membership.registry
    membership.monitor.on_probed(admission.queue.on_capacity)
    shared = {
        "live": runtime.live,
        "connection_failed": registry.connection_failed,
        "hope_secs": membership.monitor.hope_secs,
        "pools": pools,
        "telemetry": runtime.telemetry,
        "clock": runtime.clock,
        "in_flight": in_flight,
        "prepare": scheduling.prepare,
        "queue": admission.queue,
        "gate": admission.gate,
        "explain_header": config.proxy.explain_header,
    }
    if config.server.splitwise:
        starters, explain = _pairs(runtime, registry, scheduling, shared | {"make_id": make_id})
    else:
        starters, explain = _singles(runtime, registry, scheduling, shared)
    watchdog = Watchdog(state.proxied_requests, runtime.live, runtime.clock)
    runs: list[Run] = [TotalTimeLimit(state.proxied_requests, runtime.live, runtime.clock).run]
    if config.protection.ledger_interval_secs:
        runs.append(watchdog.run)
    return Routing(starters, explain, in_flight, runs)


def _singles(
    runtime: Runtime, registry: Registry, scheduling: Scheduling, shared: dict[str, Any]
) -> tuple[Starters, Explain]:
    scheduler = Scheduler[Instance](registry.group("mixed"), scheduling.policies["mixed"], partial(why_none, registry))
    start = partial(_start_single, scheduler.select, shared)
    everybody = all_instances_scheduler(registry, runtime.clock, runtime.rng, partial(why_none, registry))
    stored = stored_starters(registry, scheduler.select, everybody.select, shared)
    return {"generate": start, "any_instance": start, **stored}, scheduler.explain


def _pairs(
    runtime: Runtime, registry: Registry, scheduling: Scheduling, shared: dict[str, Any]
) -> tuple[Starters, Explain]:
    pairs = PairScheduler[Instance](
        Side(registry.group("prefill"), scheduling.policies["prefill"]),
        Side(registry.group("decode"), scheduling.policies["decode"]),
        Instance.can_pair_with,
        partial(left_out, registry),
    )
    single = any_instance_scheduler(registry, runtime.clock, runtime.rng, partial(why_none, registry))

    def start(endpoint: Endpoint) -> StartRequest:
        return partial(PairRequest, PairContext(endpoint=endpoint, select_pair=pairs.select, **shared))

    everybody = all_instances_scheduler(registry, runtime.clock, runtime.rng, partial(why_none, registry))
    by_single = {name: value for name, value in shared.items() if name != "make_id"}
    stored = stored_starters(registry, single.select, everybody.select, by_single)
    starters: dict[Mode, Starter] = {
        "generate": start,
        "stateful": start,  # its answers are kept by decode instances, who are asked one after the other
        "stored": stored["stored"],
        "any_instance": partial(_start_single, single.select, by_single),
    }
    return starters, pairs.explain


def _start_single(select: Select, shared: dict[str, Any], endpoint: Endpoint) -> StartRequest:
    return partial(SingleInstanceRequest, SingleContext(endpoint=endpoint, select=select, **shared))
