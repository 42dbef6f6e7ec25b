"""The router's own health (``/live``, ``/ready``, ``/health``), and that of all instances on demand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fd_router.http.messages import Request, Response, Routes, json_entries, json_response
from fd_router.http.pace import Pace
from fd_router.instances.group_key import GroupKey
from fd_router.instances.groups import Group
from fd_router.instances.instance import Instance
from fd_router.instances.prober import Outcome
from fd_router.instances.registration_keys import Role
from fd_router.telemetry.contracts import Log

ProbeAll = Callable[[], Awaitable[list[tuple[Instance, Outcome]]]]
"""Probes all instances now."""

Groups = Callable[[], Iterable[Group]]
"""Returns the groups of instances, by model and role."""


class HealthApi:
    """The endpoints that tell of health. Requests need an instance of each of the ``roles`` of one model."""

    def __init__(
        self, probe_all: ProbeAll, groups: Groups, roles: tuple[Role, ...], is_draining: Callable[[], bool], *, log: Log
    ) -> None:
        self._probe_all = probe_all
        self._groups = groups
        self._roles = roles
        self._is_draining = is_draining
        self._log = log

    def routes(self) -> Routes:
        """Return the handlers."""
        return {
            "/live": {"GET": self._live},
            "/ready": {"GET": self._ready},
            "/health": {"GET": self._health},
            "/health_generate": {"GET": self._health_generate},
        }

    async def _live(self, _request: Request) -> Response:
        return json_response(200, {"status": "alive"})

    async def _ready(self, _request: Request) -> Response:
        if self._is_draining():
            return json_response(503, {"status": "not ready", "reason": "draining"})
        if reason := await self._why_not_ready():
            return json_response(503, {"status": "not ready", "reason": reason})
        return json_response(200, {"status": "ready"})

    async def _why_not_ready(self) -> str:
        """Say why no request could be served now, or nothing."""
        available = {group.key: group.available for group in self._groups() if group.available}
        roles = {key.role for key in available}
        if missing := [role for role in self._roles if role not in roles]:
            return f"no {' and no '.join(missing)} instance takes requests"
        first, *others = self._roles
        pace = Pace()
        for key, members in available.items():
            partners = available.get(GroupKey(key.model, others[0]), ()) if others else None
            for instance in members if key.role == first else ():
                await pace.breathe()
                if partners is None or any(map(instance.can_pair_with, partners)):
                    return ""
        return "no prefill and decode instances of one model can serve a request together"

    async def _health(self, _request: Request) -> Response:
        if self._is_draining():
            return json_response(503, {"status": "draining"})
        return json_response(200, {"status": "healthy"})

    async def _health_generate(self, _request: Request) -> Response:
        results = await self._probe_all()
        instances = await json_entries(self._told(instance, outcome) for instance, outcome in results)
        return json_response(200, {"code": 200, "msg": "Health check complete", "instances": instances})

    def _told(self, instance: Instance, outcome: Outcome) -> dict[str, Any]:
        """Tell the log, and return what the answer has of it."""
        if outcome.healthy:
            self._log.info(f"Server {instance.url} is healthy")
        else:
            self._log.warn(f"Server {instance.url} is not healthy ({outcome.detail})")
        return {
            "url": instance.url,
            "role": instance.registration.role,
            "healthy": outcome.healthy,  # what this probe found
            "state": instance.health.value,  # what the router makes of it, thresholds considered
            "detail": outcome.detail,
            "seconds": round(outcome.seconds, 6),
        }
