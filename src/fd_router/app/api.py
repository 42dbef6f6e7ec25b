"""The part of the composition root that builds the router's own endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fd_router.api.abort import AbortApi
from fd_router.api.engine_admin import EngineAdminApi
from fd_router.api.health import HealthApi
from fd_router.api.instances import InstancesApi
from fd_router.api.metrics import metrics_routes
from fd_router.api.models import ModelsApi
from fd_router.api.registration import RegistrationApi
from fd_router.api.reload import reload_routes
from fd_router.api.routes import merge_routes
from fd_router.api.version import version_routes
from fd_router.app.admission import Admission
from fd_router.app.capacity import Capacity
from fd_router.app.dashboard import build_dashboard
from fd_router.app.membership import Membership
from fd_router.app.reload import Reloader
from fd_router.app.routing import Routing
from fd_router.app.runtime import Runtime
from fd_router.app.scheduling import Scheduling
from fd_router.app.sources import Sources
from fd_router.app.state import ABORT, Shared
from fd_router.app.workers.seat import Seat
from fd_router.app.workers.together import Workers
from fd_router.engines.dialect import AbortMessage
from fd_router.http.connection_pool import Pools
from fd_router.http.fetch import fetch
from fd_router.http.messages import Request, Routes
from fd_router.http.resolver import Resolver
from fd_router.http.server_context import ServerState
from fd_router.instances.instance import Instance
from fd_router.instances.registration_keys import Role
from fd_router.openai.endpoints import Endpoint

CONTROL_SECONDS = 5.0
"""How long an instance may take to answer a request of the router's own, an abort for one."""

ENGINE_ADMIN_SECONDS = 600.0
"""How long an instance may take to do what an admin wants of its engine: loading other weights takes minutes."""

PAGE_ROUTES = ModelsApi.PATHS
"""What a page of another site may ask for beside the inference endpoints, where it may ask at all."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the router's own endpoints are about."""

    runtime: Runtime
    membership: Membership
    sources: Sources
    admission: Admission
    capacity: Capacity
    scheduling: Scheduling
    routing: Routing
    reloader: Reloader
    state: ServerState
    pools: Pools
    resolver: Resolver
    endpoints: Sequence[Endpoint]
    shared: Shared | None
    seat: Seat | None


def build_routes(parts: Parts) -> Routes:
    """Build the handlers of the router's own endpoints, behind the guard."""
    registry, shared = parts.membership.registry, parts.shared
    metrics = parts.runtime.telemetry.metrics
    workers = Workers(shared, parts.seat, metrics, parts.reloader)
    tells = {"on_removed": shared.members.removed, "on_deadline": shared.members.drained} if shared is not None else {}
    instances = InstancesApi(registry, parts.routing.mover, log=parts.runtime.log, **tells).routes()
    explain = parts.scheduling.explain_api(parts.routing.explain, registry, parts.endpoints).routes()
    routes = merge_routes(
        _registration(parts),
        instances,
        _health(parts),
        metrics_routes(metrics.pages, workers.pages if workers.are_several else None),
        reload_routes(workers.reload),
        version_routes(registry.all),
        _engine_admin(parts),
        _abort(parts),
        _models(parts),
        explain,
        build_dashboard(
            parts.runtime, parts.membership, parts.admission, parts.capacity, parts.scheduling, parts.routing,
            parts.state, parts.endpoints, instances=instances, explain=explain,
        ),
    )  # fmt: skip
    return parts.admission.guard.protect(routes)


def _registration(parts: Parts) -> Routes:
    shared: dict[str, Any] = {}
    if parts.shared is not None:
        shared = {"on_registered": parts.shared.members.registered, "reader": parts.shared.members.reader}
    return RegistrationApi(
        parts.membership.registry,
        parts.sources.register_api,
        parts.membership.monitor.check,
        splitwise=parts.runtime.live.current.server.splitwise,
        log=parts.runtime.log,
        networks=parts.admission.networks,
        resolve=parts.resolver.addresses,
        **shared,
    ).routes()


def _health(parts: Parts) -> Routes:
    membership, state = parts.membership, parts.state
    roles: tuple[Role, ...] = ("prefill", "decode") if parts.runtime.live.current.server.splitwise else ("mixed",)
    return HealthApi(
        membership.monitor.probe_all,
        membership.registry.groups,
        roles,
        lambda: state.is_draining,
        log=parts.runtime.log,
    ).routes()


def _engine_admin(parts: Parts) -> Routes:
    async def tell(instance: Instance, request: Request) -> tuple[int, bytes]:
        head = request.head
        target = f"{head.path}?{head.query}" if head.query else head.path
        pool = parts.pools.of(instance)
        return await fetch(pool, head.method, target, request.body, time_limit=ENGINE_ADMIN_SECONDS)

    return EngineAdminApi(parts.membership.registry.all, tell, log=parts.runtime.log).routes()


def _abort(parts: Parts) -> Routes:
    shared = parts.shared

    async def post(instance: Instance, message: AbortMessage, authorization: bytes) -> tuple[int, bytes]:
        shown = {"authorization": authorization.decode("latin-1")} if authorization else {}
        pool = parts.pools.of(instance)
        return await fetch(pool, "POST", message.path, message.body, time_limit=CONTROL_SECONDS, headers=shown)

    abort = AbortApi(
        parts.membership.registry.all,
        parts.routing.in_flight,
        post,
        credentials=parts.admission.forwarded_from,
        log=parts.runtime.log,
        others=shared.abort_elsewhere if shared is not None else None,
    )
    if shared is not None:
        shared.sync.calls.on(ABORT, abort.abort_here)
    return abort.routes()


def _models(parts: Parts) -> Routes:
    directory, gate = parts.routing.directory, parts.admission.gate
    return ModelsApi(
        parts.membership.registry.all,
        lambda: directory.table,
        parts.membership.model_prober.ensure,
        (lambda authorization: gate.identify(authorization).allowance.key) if gate is not None else None,
    ).routes()
