"""The part of the composition root that says how requests begin, and who ends those that nothing happens to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from fd_router.app.admission import Admission
from fd_router.app.endpoints import Starters, all_instances_scheduler, any_instance_scheduler
from fd_router.app.membership import Membership
from fd_router.app.models import build_models
from fd_router.app.runtime import Run, Runtime
from fd_router.app.scheduling import Scheduling
from fd_router.app.stored import paired_or_kept, stored_starters
from fd_router.app.streams import at_endpoint, build_streams
from fd_router.http.client_stream import StartRequest
from fd_router.http.connection_pool import Pools
from fd_router.http.server_context import ServerState
from fd_router.instances.exclusions import left_out, why_none
from fd_router.instances.instance import Instance
from fd_router.instances.registry import Registry
from fd_router.openai.completion import Completion
from fd_router.openai.endpoints import Endpoint
from fd_router.routing.in_flight import InFlight
from fd_router.routing.model_route import ModelSwitch
from fd_router.routing.models.directory import GroupScheduler, ModelDirectory, Policies
from fd_router.routing.other_endpoint_pair import OtherEndpointPairRequest
from fd_router.routing.pair import PairRequest
from fd_router.routing.pair_context import PairContext
from fd_router.routing.pair_planning import PlannedSeeker, decodes_alone
from fd_router.routing.request import RoutedRequest
from fd_router.routing.rescue import Rescue
from fd_router.routing.single import SingleContext, SingleInstanceRequest
from fd_router.routing.stored_answers import StoredAnswers
from fd_router.routing.stored_pair import StoringPairContext, StoringPairRequest
from fd_router.routing.stream_mover import StreamMover
from fd_router.routing.total_time import TotalTimeLimit
from fd_router.routing.watchdog import Watchdog
from fd_router.scheduling.decision_tap import DecisionTap
from fd_router.scheduling.explanation import Draw, Verdict
from fd_router.scheduling.pairs import PairScheduler, Side
from fd_router.scheduling.ranks import Ranks
from fd_router.scheduling.scheduler import Scheduler

Explain = Callable[[Completion, str, bytes, Draw], Sequence[Verdict | str]]
"""(completion, path, body, draw) → a verdict for each role, or why there is none. Raises NoInstanceError."""


class Routing(msgspec.Struct, frozen=True):
    """How requests begin, by their endpoint's mode; who explains their choices; those under way, and who moves them."""

    starters: Starters
    explain: Explain
    in_flight: InFlight
    mover: StreamMover
    directory: ModelDirectory
    tap: DecisionTap
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
    config, registry, switch = runtime.live.current, membership.registry, ModelSwitch()
    in_flight = InFlight(partial(_under_way, state))
    membership.monitor.on_probed(admission.queues.on_capacity)
    switch.on_not_found = membership.model_prober.want
    tap = DecisionTap()
    make_scheduler = (
        partial(_pairs, runtime, registry, tap)
        if config.server.splitwise
        else partial(_singles, registry, tap, scheduling.ranks)
    )
    directory, default = build_models(runtime, registry, scheduling, admission.queues, switch, make_scheduler)
    shared = {
        "live": runtime.live,
        "connection_failed": registry.connection_failed,
        "hope_secs": membership.monitor.hope_secs,
        "pools": pools,
        "telemetry": runtime.telemetry,
        "clock": runtime.clock,
        "in_flight": in_flight,
        "prepare": scheduling.prepare,
        "queue": admission.queues.default,
        "gate": admission.gate,
        "models": switch,
        "streams": build_streams(runtime),
        "precedence": admission.precedence if scheduling.needs_precedence else None,
        "tells_totals": scheduling.recorder is not None,
        "explain_header": config.proxy.explain_header,
    }
    starters = _starters(runtime, registry, default, shared, make_id if config.server.splitwise else None)
    rescue = Rescue(state.proxied_requests, pools.delivered_at, clock=runtime.clock, log=runtime.log)
    registry.on_change(rescue.on_change)
    watchdog = Watchdog(state.proxied_requests, runtime.live, runtime.clock)
    mover = StreamMover(partial(_under_way, state), partial(_in_use, registry), clock=runtime.clock, log=runtime.log)
    registry.on_change(mover.on_change)
    runs: list[Run] = [TotalTimeLimit(state.proxied_requests, runtime.live, runtime.clock).run, mover.run]
    if config.protection.ledger_interval_secs:
        runs.append(watchdog.run)
    return Routing(starters, partial(_explain, directory, default), in_flight, mover, directory, tap, runs)


def _under_way(state: ServerState) -> list[RoutedRequest]:
    return [one for one in state.proxied_requests() if isinstance(one, RoutedRequest)]


def _in_use(registry: Registry) -> tuple[Instance, ...]:
    return (*registry.all(), *registry.removed_in_use())


def _starters(
    runtime: Runtime,
    registry: Registry,
    default: GroupScheduler,
    shared: dict[str, Any],
    make_id: Callable[[], str] | None,
) -> Starters:
    """Return what begins the requests of each mode; ``make_id``: of pairs, None where there are none."""
    single = partial(_start_single, default, shared)
    everybody = all_instances_scheduler(registry, runtime.clock, runtime.rng)
    select = default.select if make_id is None else everybody.select
    answers = StoredAnswers()
    stored = stored_starters(registry, select, everybody.select, answers, shared)
    if make_id is None:
        return {"generate": single, "any_instance": single, **stored}
    for_pairs = shared | {"make_id": make_id}
    pair, storing = partial(_start_pair, default, for_pairs), partial(_start_storing, default, answers, for_pairs)
    return {
        "generate": pair,
        "stateful": paired_or_kept(storing, stored["stateful"]),
        "stored": stored["stored"],
        "any_instance": single,
    }


def _explain(
    directory: ModelDirectory, default: GroupScheduler, completion: Completion, path: str, body: bytes, draw: Draw
) -> Sequence[Verdict | str]:
    chooser = directory if directory.is_needed else default
    return chooser.explain(completion, draw, PlannedSeeker(path, body))


def _singles(
    registry: Registry, tap: DecisionTap, ranks: Ranks[Instance] | None, model: str, policies: Policies
) -> GroupScheduler:
    """Make who schedules the requests for ``model`` in a fleet of mixed instances."""
    why = partial(why_none, registry, model)
    expand = None if ranks is None else ranks.view()
    scheduler = Scheduler[Instance](registry.group("mixed", model), policies["mixed"], why, expand=expand)
    tap.add(scheduler)
    return GroupScheduler(scheduler.select, scheduler.select, scheduler.explain)


def _pairs(runtime: Runtime, registry: Registry, tap: DecisionTap, model: str, policies: Policies) -> GroupScheduler:
    """Make who schedules the requests for ``model`` in a fleet of prefill and decode instances."""
    pairs = PairScheduler[Instance](
        Side(registry.group("prefill", model), policies["prefill"]),
        Side(registry.group("decode", model), policies["decode"]),
        Instance.can_pair_with,
        partial(left_out, registry, model),
        decodes_alone,
        partial(_alone_below, runtime),
    )
    tap.add(pairs)
    single = any_instance_scheduler(registry, runtime.clock, runtime.rng, model)
    return GroupScheduler(single.select, pairs.select, pairs.explain)


def _alone_below(runtime: Runtime) -> int:
    """Return the tokens that a decode instance may lack of a prompt and serve it alone all the same; 0: none."""
    return runtime.live.current.scheduler.decode_alone_below_tokens


def _start_pair(default: GroupScheduler, shared: dict[str, Any], endpoint: Endpoint) -> StartRequest:
    kind = PairRequest if endpoint.kind == "chat" else OtherEndpointPairRequest
    return partial(kind, PairContext(select_pair=default.select_pair, **at_endpoint(endpoint, shared)))


def _start_storing(
    default: GroupScheduler, answers: StoredAnswers, shared: dict[str, Any], endpoint: Endpoint
) -> StartRequest:
    select_pair = default.select_pair
    context = StoringPairContext(select_pair=select_pair, answers=answers, **at_endpoint(endpoint, shared))
    return partial(StoringPairRequest, context)


def _start_single(default: GroupScheduler, shared: dict[str, Any], endpoint: Endpoint) -> StartRequest:
    return partial(SingleInstanceRequest, SingleContext(select=default.select, **at_endpoint(endpoint, shared)))
