"""The part of the composition root that says which endpoints' streams go on when their instance breaks off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fd_router.app.runtime import Runtime
from fd_router.openai.endpoints import CHAT, COMPLETIONS, Endpoint
from fd_router.routing.continuation.budget import JournalBudget
from fd_router.routing.continuation.keeper import StreamKeeper


def build_streams(runtime: Runtime) -> Mapping[str, StreamKeeper]:
    """Build the keepers of streams by endpoint's path; they have one budget."""
    budget = JournalBudget(runtime.live.current.proxy.journals_mb << 20)
    metrics = runtime.telemetry.metrics.continuations
    return {
        endpoint.path: StreamKeeper(runtime.live, budget, metrics, runtime.clock, chat=endpoint is CHAT)
        for endpoint in (CHAT, COMPLETIONS)
    }


def at_endpoint(endpoint: Endpoint, shared: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is in the context of requests to ``endpoint``, of what all share: its own keeper of streams."""
    return {**shared, "endpoint": endpoint, "streams": shared["streams"].get(endpoint.path)}
