"""The router's own health, and that of all instances on demand: ``/health``, ``/health_generate``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fd_router.http.messages import Request, Response, Routes, json_response
from fd_router.instances.instance import Instance
from fd_router.instances.prober import Outcome
from fd_router.telemetry.contracts import Log

ProbeAll = Callable[[], Awaitable[list[tuple[Instance, Outcome]]]]
"""Probes all instances now."""


class HealthApi:
    """The endpoints that tell of health."""

    def __init__(self, probe_all: ProbeAll, is_draining: Callable[[], bool], *, log: Log) -> None:
        self._probe_all = probe_all
        self._is_draining = is_draining
        self._log = log

    def routes(self) -> Routes:
        """Return the handlers."""
        return {"/health": {"GET": self._health}, "/health_generate": {"GET": self._health_generate}}

    async def _health(self, _request: Request) -> Response:
        if self._is_draining():
            return json_response(503, {"status": "draining"})
        return json_response(200, {"status": "healthy"})

    async def _health_generate(self, _request: Request) -> Response:
        results = await self._probe_all()
        for instance, outcome in results:
            self._log_result(instance, outcome)
        instances = [_entry(instance, outcome) for instance, outcome in results]
        return json_response(200, {"code": 200, "msg": "Health check complete", "instances": instances})

    def _log_result(self, instance: Instance, outcome: Outcome) -> None:
        if outcome.healthy:
            self._log.info(f"Server {instance.url} is healthy")
        else:
            self._log.warn(f"Server {instance.url} is not healthy ({outcome.detail})")


def _entry(instance: Instance, outcome: Outcome) -> dict[str, Any]:
    return {
        "url": instance.url,
        "role": instance.registration.role,
        "healthy": outcome.healthy,  # what this probe found
        "state": instance.health.value,  # what the router makes of it, thresholds considered
        "detail": outcome.detail,
        "seconds": round(outcome.seconds, 6),
    }
