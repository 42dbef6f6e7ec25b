"""``/metrics`` in the Prometheus text format."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from fd_router.http.messages import Request, Response, Routes
from fd_router.http.pace import Pace

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


Whole = Callable[[], Awaitable[bytes]]
"""Gives the page of all workers."""


def metrics_routes(pages: Callable[[], Iterable[bytes]], whole: Whole | None = None) -> Routes:
    """Return the handler that answers with what ``pages`` gives, in slices: a large fleet has thousands of lines.

    ``whole``: gives the page of all workers instead, where there are several.
    """

    async def metrics(_request: Request) -> Response:
        if whole is not None:
            return Response(200, await whole(), CONTENT_TYPE)
        pace, done = Pace(), []
        for page in pages():
            done.append(page)
            await pace.breathe()
        return Response(200, b"".join(done), CONTENT_TYPE)

    return {"/metrics": {"GET": metrics}}
