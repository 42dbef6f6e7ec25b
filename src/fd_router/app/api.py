"""The part of the composition root that builds the router's own endpoints."""

from __future__ import annotations

from collections.abc import Sequence

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


def build_routes(
    runtime: Runtime,
    membership: Membership,
    sources: Sources,
    admission: Admission,
    scheduling: Scheduling,
    routing: Routing,
    reloader: Reloader,
    state: ServerState,
    pools: Pools,
    resolver: Resolver,
    endpoints: Sequence[Endpoint],
    shared: Shared | None,
    seat: Seat | None,
    capacity: Capacity,
) -> Routes:
    """Build the handlers of the router's own endpoints, behind the guard."""
    registry, monitor, log, gate = membership.registry, membership.monitor, runtime.log, admission.gate

    async def post(instance: Instance, message: AbortMessage, authorization: bytes) -> tuple[int, bytes]:
        shown = {"authorization": authorization.decode("latin-1")} if authorization else {}
        pool = pools.of(instance)
        return await fetch(pool, "POST", message.path, message.body, time_limit=CONTROL_SECONDS, headers=shown)

    roles: tuple[Role, ...] = ("prefill", "decode") if runtime.live.current.server.splitwise else ("mixed",)

    async def tell(instance: Instance, request: Request) -> tuple[int, bytes]:
        head = request.head
        target = f"{head.path}?{head.query}" if head.query else head.path
        return await fetch(pools.of(instance), head.method, target, request.body, time_limit=ENGINE_ADMIN_SECONDS)

    registration = RegistrationApi(
        registry,
        sources.register_api,
        monitor.check,
        splitwise=runtime.live.current.server.splitwise,
        log=log,
        networks=admission.networks,
        resolve=resolver.addresses,
        **({"on_registered": shared.members.registered} if shared is not None else {}),
    )
    abort = AbortApi(
        registry.all,
        routing.in_flight,
        post,
        credentials=admission.forwarded_from,
        log=log,
        others=shared.abort_elsewhere if shared is not None else None,
    )
    if shared is not None:
        shared.sync.calls.on(ABORT, abort.abort_here)
    workers = Workers(shared, seat, runtime.telemetry.metrics, reloader)
    on_removed = {"on_removed": shared.members.removed} if shared is not None else {}
    instances = InstancesApi(registry, routing.mover, log=log, **on_removed).routes()
    explain = scheduling.explain_api(routing.explain, registry, endpoints).routes()
    routes = merge_routes(
        registration.routes(),
        instances,
        HealthApi(monitor.probe_all, registry.groups, roles, lambda: state.is_draining, log=log).routes(),
        metrics_routes(runtime.telemetry.metrics.pages, workers.pages if workers.are_several else None),
        reload_routes(workers.reload),
        version_routes(registry.all),
        EngineAdminApi(registry.all, tell, log=log).routes(),
        abort.routes(),
        ModelsApi(
            registry.all,
            lambda: routing.directory.table,
            membership.model_prober.ensure,
            (lambda authorization: gate.identify(authorization).allowance.key) if gate is not None else None,
        ).routes(),
        explain,
        build_dashboard(
            runtime, membership, admission, capacity, scheduling, routing, state, endpoints,
            instances=instances, explain=explain,
        ),
    )  # fmt: skip
    return admission.guard.protect(routes)
