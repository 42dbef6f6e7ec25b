"""The rules for single fields of a request's head, and for its first line (RFC 9110, RFC 9112). No state, no I/O."""

from __future__ import annotations

import re
from typing import Final

from fd_router.errors import BadRequestError
from fd_router.http.forwarding import FORWARDING_FIELDS
from fd_router.http.heads import HOP_BY_HOP
from fd_router.http.messages import Headers

ENGINE_ORDERS: Final = frozenset(
    (
        b"x-data-parallel-rank",
        b"x-override-bootstrap-host",
        b"x-override-bootstrap-port",
        b"x-override-bootstrap-room",
        b"x-override-disagg-prefill-dp-rank",
        b"x-override-rid",
        b"x-override-routed-dp-rank",
    )
)
"""What only a router tells an engine: which rank serves, and (SGLang's ``x-override-…``) where it fetches a cache and
what the request is called. From a client they are dropped."""

INSPECTED: Final = (
    HOP_BY_HOP
    | FORWARDING_FIELDS
    | {b"content-encoding", b"content-length", b"expect", b"host", b"trailer", b"transfer-encoding", b"x-request-id"}
    | ENGINE_ORDERS
)
"""Headers that the router reads, and writes anew where they are needed."""

MAX_FIELDS = 200
"""Header fields of a request. Clients send some 20, chains of proxies a few more."""

UNKNOWN_VERSION = "Invalid HTTP version"
"""What llhttp says of a version that is written as it should be (HTTP/1.2, HTTP/3.0), and that it doesn't know."""

_AUTHORITY = re.compile(r"[^/?#]*")

_HOST = re.compile(rb"(?:\[[0-9A-Za-z:.%_~-]+\]|[0-9A-Za-z!$&'()*+,;=%._~-]*)(?::[0-9]*)?")
"""RFC 9110 section 7.2, RFC 3986 section 3.2.2."""

_OTHER_PROTOCOL = re.compile(rb" (?:RTSP|ICE)/[0-9]\.[0-9]\r?\n")
"""What the parser takes as well, and doesn't tell from HTTP."""

_SHORTEST_OTHER: Final = len(b" ICE/1.0\n")
"""A method alone is mostly shorter, and needn't be looked through."""

_WHOLE_SERVER = "*"


def is_host(value: bytes) -> bool:
    """Tell whether the value of a ``Host`` header is a host, and perhaps a port."""
    return _HOST.fullmatch(value) is not None


def origin_form(target: str, method: str) -> str:
    """Reduce ``http://host/path`` to ``/path`` (RFC 9112 section 3.2.2). Raises BadRequestError.

    ``*`` is what OPTIONS may ask of the server as a whole. Other forms have no meaning here.
    """
    if "#" in target:
        raise _bad_target("a fragment is the client's own, and never sent")
    if target.startswith("/") or (target == _WHOLE_SERVER and method == "OPTIONS"):
        return target
    scheme, found, rest = target.partition("://")
    if not found or scheme.lower() not in ("http", "https"):
        raise _bad_target("it must be a path")
    authority = rest[: _end_of_authority(rest)]
    host = authority.rpartition("@")[2]
    if host[:1] in ("", ":") or not is_host(host.encode("latin-1")):
        raise _bad_target("the host in it must be a name or an address")
    path = rest[len(authority) :]
    return path if path.startswith("/") else "/" + path


def _end_of_authority(text: str) -> int:
    found = _AUTHORITY.match(text)
    return found.end() if found is not None else 0


def _bad_target(why: str) -> BadRequestError:
    return BadRequestError(f"Invalid HTTP request: the target can't be used: {why}", code="invalid_http")


def end_of_first_line(received: bytes, start: int, target: bytes, version: str) -> int:
    """Return where the first line of the request in ``received``, at ``start`` or behind, ends. Raises BadRequestError.

    The parser knows other protocols that look like HTTP, and reads a request of theirs as if it were one of HTTP.
    """
    line = b"%b HTTP/%b" % (target, version.encode("ascii"))
    at = received.find(line, start)
    end = at if at >= 0 else len(received)  # without it there are more spaces than need be
    if end - start >= _SHORTEST_OTHER and _OTHER_PROTOCOL.search(received, start, end) is not None:
        first = re.search(rb" %b +(HTTP|RTSP|ICE)/[0-9]\.[0-9]\r?\n" % re.escape(target), received[start:])
        if first is None or first[1] != b"HTTP":
            raise BadRequestError("This is HTTP, and no other protocol; use HTTP/1.1", status=505)
        return start + first.end()
    return at + len(line) if at >= 0 else start


def check_transfer_coding(value: bytes, version: str) -> None:
    """Refuse a body that was encoded for the way to here in more than chunks, since nobody behind could read it."""
    if version == "1.0":  # RFC 9112 section 6.1: faulty framing
        raise BadRequestError("Invalid HTTP request: HTTP/1.0 knows no Transfer-Encoding", code="invalid_http")
    if value.lower() != b"chunked":
        raise BadRequestError("The only Transfer-Encoding that is supported is chunked", status=501)


def check_content_coding(value: bytes) -> None:
    """Refuse a body that can't be read here, and so can't be routed by what it says (RFC 9110 section 15.5.16)."""
    if value.lower() not in (b"", b"identity"):
        raise _unreadable(value[:40].decode("latin-1"))


def _unreadable(coding: str) -> BadRequestError:
    error = BadRequestError(f"Content-Encoding: {coding} can't be read here; send the body as it is", status=415)
    error.headers = (("accept-encoding", "identity"),)
    return error


def check_expectation(value: bytes) -> None:
    """Refuse any expectation but the one of an interim answer."""
    if value.lower() != b"100-continue":
        raise BadRequestError("The expectation in the Expect header can't be met", status=417)


def head_too_large(limit: int) -> BadRequestError:
    """Make the answer to a head of more than ``limit`` bytes."""
    return BadRequestError(f"The request's head is larger than {limit // 1024} KB", status=431, code="head_too_large")


def body_too_large(limit: int) -> BadRequestError:
    """Make the answer to a body of more than ``limit`` bytes."""
    message = f"The request's body is larger than {limit // 1024} KB"
    return BadRequestError(message, status=413, code="body_too_large")


CREDENTIALS: Final = (b"authorization", b"x-api-key")
"""Headers with a client's key: OpenAI's, and Anthropic's."""


def authorization(headers: Headers) -> bytes:
    """Return the credentials as ``Authorization`` has them, none when there are several.

    Two readers might go by different ones. An ``x-api-key`` counts where there is no ``Authorization``.
    """
    found = [(name, value) for key, value in headers if (name := key.lower()) in CREDENTIALS]
    for wanted, scheme in ((b"authorization", b""), (b"x-api-key", b"Bearer ")):
        values = [value for name, value in found if name == wanted]
        if values:
            return scheme + values[0] if len(values) == 1 else b""
    return b""


def trace_id(headers: Headers) -> str:
    """Return the trace that a request belongs to: FastDeploy's ``X_BD_LOGID``, else the id in ``traceparent``."""
    if own := first_value(headers, b"x_bd_logid"):
        return own.decode("latin-1")
    return first_value(headers, b"traceparent")[3:35].decode("latin-1")  # W3C Trace Context: 00-<32 digits>-…


def first_value(headers: Headers, name: bytes) -> bytes:
    """Return the first value of the header ``name`` (lower case), nothing if there is none."""
    for key, value in headers:
        if key.lower() == name:
            return value
    return b""
