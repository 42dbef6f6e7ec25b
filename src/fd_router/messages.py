"""HTTP messages as the rooms hand them to each other: the request a client sent, the answer the router makes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from fd_router.errors import HttpError

Headers = list[tuple[bytes, bytes]]
"""(name, value) pairs in the order received; names keep the sender's case."""

REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 411: "Length Required", 413: "Content Too Large", 417: "Expectation Failed",
    429: "Too Many Requests", 431: "Request Header Fields Too Large", 499: "Client Closed Request",
    500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}  # fmt: skip


class Request:
    """One complete request from a client: head parsed, body whole (de-chunked), ready to be answered."""

    __slots__ = (
        "body", "client", "headers", "http_1_0", "keep_alive", "method", "path", "query", "received_at",
        "request_id", "traceparent",
    )  # fmt: skip

    def __init__(self, method: str, path: str, query: str = "", headers: Headers | None = None, body: bytes = b"") -> None:
        self.method = method
        self.path = path
        self.query = query  # without the question mark
        self.headers: Headers = headers if headers is not None else []  # end-to-end ones only
        self.body = body
        self.client = ""  # the client's IP address
        self.request_id = ""  # the client's x-request-id, or one made here
        self.traceparent = b""
        self.http_1_0 = False
        self.keep_alive = True
        self.received_at = 0.0  # monotonic seconds when the first byte of the head was read

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of header ``name`` (lower case), or None."""
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return None

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path} {len(self.body)} B from {self.client or '?'}>"


class Response(msgspec.Struct, frozen=True):
    """A whole answer made by the router itself."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Request], Awaitable[Response]]
"""Answers one request on the control path. Raises HttpError for an OpenAI-shaped error."""

Routes = Mapping[str, Mapping[str, Handler]]
"""path → method → handler."""


def json_response(status: int, value: Any, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Make an answer with ``value`` as its JSON body."""
    return Response(status, msgspec.json.encode(value), headers=headers)


def error_response(error: HttpError) -> Response:
    """Make the answer for ``error`` in the shape that OpenAI clients parse."""
    body = {"error": {"message": error.message, "type": error.type, "param": None, "code": error.code}}
    return json_response(error.status, body, error.headers)
