from __future__ import annotations

from fd_router.api.metrics import metrics_routes
from fd_router.http.messages import Request, RequestHead


async def test_metrics_are_rendered_at_each_request() -> None:
    pages = iter([[b"a 1\n", b"b 1\n"], [b"a 2\n"]])
    handler = metrics_routes(lambda: next(pages))["/metrics"]["GET"]
    first, second = (
        await handler(Request(RequestHead("GET", "/metrics"))),
        await handler(Request(RequestHead("GET", "/metrics"))),
    )
    assert (first.status, first.body, second.body) == (200, b"a 1\nb 1\n", b"a 2\n")
    assert first.content_type == "text/plain; version=0.0.4; charset=utf-8"
