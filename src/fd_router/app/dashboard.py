"""The part of the composition root that builds the dashboard, where the options have one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fd_router import __version__
from fd_router.api.dashboard.endpoints import DashboardApi
from fd_router.api.dashboard.feed import Feed, Watched
from fd_router.api.dashboard.page import make_page
from fd_router.app.admission import Admission
from fd_router.app.capacity import Capacity
from fd_router.app.membership import Membership
from fd_router.app.routing import Routing
from fd_router.app.runtime import Runtime
from fd_router.app.scheduling import Scheduling
from fd_router.http.messages import Handler, Routes
from fd_router.http.server_context import ServerState
from fd_router.openai.endpoints import Endpoint


def build_dashboard(
    runtime: Runtime,
    membership: Membership,
    admission: Admission,
    capacity: Capacity,
    scheduling: Scheduling,
    routing: Routing,
    state: ServerState,
    endpoints: Sequence[Endpoint],
    *,
    instances: Routes,
    explain: Routes,
) -> Routes:
    """Build the dashboard's endpoints; ``instances``, ``explain``: whom its buttons call. None where it is off."""
    if not runtime.live.current.server.dashboard:
        return {}
    registry = membership.registry
    about = _about(runtime, scheduling, state)
    watched = Watched(
        about=about,
        members=registry.all,
        removed_in_use=registry.removed_in_use,
        circuits=capacity.circuits,
        cached_blocks=scheduling.cached_blocks,
        queue=admission.queues.lengths,
        keys=admission.keys,
        inference=frozenset(endpoint.path for endpoint in endpoints),
    )
    feed = Feed(
        watched,
        runtime.telemetry,
        routing.tap,
        later=runtime.loop.call_later,
        clock=runtime.clock,
        wall_clock=time.time,
    )
    registry.on_change(feed.troubles.on_change)
    buttons = {
        **{path: changing for path, methods in instances.items() if (changing := _without_get(methods))},
        "/explain": explain["/v1/explain"],
    }
    return DashboardApi(
        feed, admission.guard, admission.sessions, make_page, about, lambda: state.is_draining, buttons
    ).routes()


def _without_get(methods: Mapping[str, Handler]) -> dict[str, Handler]:
    return {method: handler for method, handler in methods.items() if method != "GET"}


def _about(runtime: Runtime, scheduling: Scheduling, state: ServerState) -> Callable[[], dict[str, Any]]:
    """Return who says what this router is, and how it goes with it."""
    begun = runtime.clock()

    def about() -> dict[str, Any]:
        return {
            "name": runtime.live.current.server.name,
            "version": __version__,
            "up_secs": round(runtime.clock() - begun),
            "is_draining": state.is_draining,
            "policies": dict(scheduling.names),
        }

    return about
