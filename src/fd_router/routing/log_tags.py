"""The tags of a request's log lines: its trace, the ids from its body, the router's own id."""

from __future__ import annotations

from fd_router.http.messages import Request
from fd_router.telemetry.sanitize import context_tags


def request_tags(request: Request, req_id: str = "", session_id: str = "", request_id: str = "") -> str:
    """Make the tags of ``request``; the ids are from its body (FastDeploy's ``middleware`` package).

    ``request_id`` is the one that its instances know it by, so that one search finds its lines in all logs; without one
    the router's own stands there.
    """
    head = request.head
    if not (req_id or session_id or request_id or head.request_id or head.trace_id):
        return f"[request_id:{request.request_id}] "  # made by the router: there is nothing to escape
    return context_tags(head.trace_id, req_id, session_id, request_id or request.request_id)
