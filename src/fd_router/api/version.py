"""``GET /version``: what answers here, and which engines stand behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fd_router import __version__
from fd_router.http.messages import Request, Response, Routes, json_response
from fd_router.instances.instance import Health, Instance


def version_routes(members: Callable[[], Iterable[Instance]]) -> Routes:
    """Return the handler."""

    async def version(_request: Request) -> Response:
        engines = {instance.dialect.name for instance in members() if instance.health is Health.HEALTHY}
        return json_response(200, {"version": __version__, "name": "fd-router", "engines": sorted(engines)})

    return {"/version": {"GET": version}}
