"""``/metrics`` in the Prometheus text format."""

from __future__ import annotations

from collections.abc import Callable

from fd_router.http.messages import Request, Response, Routes

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_routes(render: Callable[[], bytes]) -> Routes:
    """Return the handler that answers with what ``render`` gives."""

    async def metrics(_request: Request) -> Response:
        return Response(200, render(), CONTENT_TYPE)

    return {"/metrics": {"GET": metrics}}
