"""The tags of a request's log lines: its trace, the ids from its body, the router's own id."""

from __future__ import annotations

from fd_router.http.messages import Request
from fd_router.telemetry.sanitize import context_tags


def request_tags(request: Request, req_id: str, session_id: str) -> str:
    """Make the tags of ``request``; ``req_id`` and ``session_id`` are from its body."""
    head = request.head
    if not (req_id or session_id or head.request_id or head.traceparent):
        return f"[request_id:{request.request_id}] "  # made by the router: there is nothing to escape
    trace_id = head.traceparent[3:35].decode("latin-1")
    return context_tags(trace_id, req_id, session_id, request.request_id)
