"""HTTP messages as the rooms hand them to each other: the request a client sent, the answer the router makes."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from fd_router.errors import ErrorBody, HttpError, openai_error
from fd_router.http.pace import Pace

Headers = Sequence[tuple[bytes, bytes]]
"""(name, value) pairs in the order received; names keep the sender's case."""

REASONS = {
    200: "OK", 204: "No Content", 301: "Moved Permanently", 307: "Temporary Redirect",
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 408: "Request Timeout", 411: "Length Required", 413: "Content Too Large",
    415: "Unsupported Media Type", 417: "Expectation Failed", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 499: "Client Closed Request", 500: "Internal Server Error",
    501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
    505: "HTTP Version Not Supported", 508: "Loop Detected",
}  # fmt: skip


class RequestHead(msgspec.Struct, frozen=True, gc=False):
    """A request's head as it was parsed. One object serves all requests of a connection that have the same head."""

    method: str
    path: str
    query: str = ""  # without the question mark
    headers: Headers = ()  # end-to-end ones, less those that the router writes itself
    request_id: str = ""  # the client's x-request-id
    trace_id: str = ""  # X_BD_LOGID, else the one in traceparent
    is_http_1_0: bool = False
    keep_alive: bool = True
    forward: bytes = b""  # ``headers`` as the lines to send on
    authorization: bytes = b""  # the Authorization header's value, unless there are several
    start: bytes = b""  # the first line to send on
    hops: bytes = b"\r\n"  # the lines to send on that tell which way it came, and the blank one behind them
    client: str = ""  # the client's IP address, as trusted proxies tell it: for the log and fairness, not for access
    session: str = ""  # x-session-id, which goes before what a body says
    continues: bytes = b""  # x-router-continue: how its stream may go on when its instance breaks off
    cors: bytes = b""  # header lines that each answer to it gets
    host: bytes = b""  # the Host header's value, to tell the router's own pages from others'

    @property
    def version(self) -> str:
        """``1.1`` or ``1.0``."""
        return "1.0" if self.is_http_1_0 else "1.1"

    def __repr__(self) -> str:
        return f"<RequestHead {self.method} {self.path}>"  # headers may be secrets


class Request(msgspec.Struct, frozen=True, gc=False):
    """One complete request from a client: head parsed, body whole (de-chunked), ready to be answered."""

    head: RequestHead
    body: bytes = b""
    request_id: str = ""  # the client's, or one made here
    received_at: float = 0.0  # monotonic seconds at which the head was complete
    client: str = ""  # the IP address of the connection's other end; only told to the router's own endpoints

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of header ``name`` (lower case), or None."""
        for key, value in self.head.headers:
            if key.lower() == name:
                return value
        return None

    def __repr__(self) -> str:
        return f"<Request {self.head.method} {self.head.path} {len(self.body)} B>"


def with_header(request: Request, name: bytes, value: bytes) -> Request:
    """Return ``request`` as an instance is to get it: with header ``name`` (lower case), and no other of that name."""
    head = request.head
    headers = (*((key, text) for key, text in head.headers if key.lower() != name), (name, value))
    forward = b"".join([b"%b: %b\r\n" % field for field in headers])
    return msgspec.structs.replace(request, head=msgspec.structs.replace(head, headers=headers, forward=forward))


class Response(msgspec.Struct, frozen=True):
    """A whole answer made by the router itself."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    events: Subscribe | None = None  # who goes on with server-sent events behind the body


class EventOutlet(Protocol):
    """Where the events of an answer without end go; see ``http.event_stream``."""

    def send(self, events: bytes) -> bool:
        """Send whole events. Returns False where they are dropped, since the client takes none at present."""

    def end(self) -> None:
        """No more events come: close."""


Subscribe = Callable[[EventOutlet], Callable[[], None]]
"""Begins to send events to an outlet; what it returns is called once, when the outlet is gone."""

Handler = Callable[[Request], Awaitable[Response]]
"""Answers one request on the control path. Raises HttpError for an OpenAI-shaped error."""

Routes = Mapping[str, Mapping[str, Handler]]
"""path → method → handler."""


def json_response(status: int, value: Any, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Make an answer with ``value`` as its JSON body. Text that UTF-8 can't hold (a lone surrogate) is escaped."""
    return Response(status, _as_json(value), headers=headers)


def json_entry(value: Any) -> msgspec.Raw:
    """Write a part of what a ``json_response`` is to hold."""
    return msgspec.Raw(_as_json(value))


async def json_entries(entries: Iterable[Any]) -> list[msgspec.Raw]:
    """Write the entries of a long list as JSON, to be put into a ``json_response``, while others have a turn."""
    written, pace = [], Pace()
    for entry in entries:
        written.append(json_entry(entry))
        await pace.breathe()
    return written


def _as_json(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError):
        return json.dumps(value, separators=(",", ":"), default=_read_again).encode("ascii")


def _read_again(entry: msgspec.Raw) -> Any:
    """Read one that ``json_entries`` has written: the standard library can't take it as it is."""
    return json.loads(bytes(entry))


def error_response(error: HttpError, error_body: ErrorBody = openai_error) -> Response:
    """Make the answer for ``error``, in the shape that clients of its endpoint parse."""
    headers = error.headers if error.may_be_repeated else (*error.headers, ("x-should-retry", "false"))
    return json_response(error.status, error_body(error), headers)
