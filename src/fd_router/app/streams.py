"""The part of the composition root that says which endpoints' streams go on when their instance breaks off."""

from __future__ import annotations

from collections.abc import Mapping

from fd_router.app.runtime import Runtime
from fd_router.openai.endpoints import CHAT, COMPLETIONS
from fd_router.routing.continuation.journal import JournalBudget
from fd_router.routing.continuation.keeper import StreamKeeper


def build_streams(runtime: Runtime) -> Mapping[str, StreamKeeper]:
    """Build the keepers of streams by endpoint's path; they have one budget."""
    budget = JournalBudget(runtime.live.current.proxy.journals_mb << 20)
    metrics = runtime.telemetry.metrics.continuations
    return {
        endpoint.path: StreamKeeper(runtime.live, budget, metrics, runtime.clock, chat=endpoint is CHAT)
        for endpoint in (CHAT, COMPLETIONS)
    }
