"""What the router says to a request that no instance answers: which handler has it, or the answer that needs none."""

from __future__ import annotations

from fd_router.errors import BadRequestError
from fd_router.http.cors import Cors
from fd_router.http.handlers import find_route
from fd_router.http.messages import Handler, RequestHead, Response, error_response
from fd_router.http.server_context import ServerContext


def handler_or_answer(context: ServerContext, head: RequestHead) -> Handler | Response:
    """Return who answers a request to the router itself, or the answer."""
    methods = context.routes.get(find_route(context.routes, head.path))
    if methods is not None and (handler := methods.get("GET" if head.method == "HEAD" else head.method)) is not None:
        return handler
    if head.path == "*":  # OPTIONS only: about the server as a whole (RFC 9110 section 9.3.7)
        return Response(204, headers=(("allow", "GET, HEAD, OPTIONS, POST"),))
    allowed, reader = context.allowed(head.path), context.reader
    if head.method == "OPTIONS" and reader.cors is not None and allowed and head.path in reader.cors_paths:
        preflight = Cors.preflight(head.headers, allowed)
        if preflight is not None:
            return preflight
    if not allowed and context.allowed(bare := head.path.rstrip("/")):
        return _redirect(head, bare)
    if not allowed:
        error = BadRequestError(f"There is nothing at {head.path}", status=404, code="not_found")
    else:
        error = BadRequestError(f"{head.method} is not allowed for {head.path}", status=405)
        error.headers = (("allow", ", ".join(allowed)),)
    return error_response(error)


def _redirect(head: RequestHead, path: str) -> Response:
    """Lead to the path without its slash at the end, as FastDeploy's program does (gin): a POST is to be repeated."""
    where = f"{path}?{head.query}" if head.query else path
    return Response(301 if head.method in {"GET", "HEAD"} else 307, headers=(("location", where),))


def endpoint_of(context: ServerContext, path: str) -> str:
    """Return the label of metrics that ``path`` counts under."""
    return find_route(context.routes, path) or context.inference_path(path) or "unmatched"
