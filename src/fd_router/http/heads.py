"""Message heads: what is passed on, what is not (RFC 9110 section 7.6, RFC 9112), and their bytes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from fd_router.http.messages import REASONS, Headers, Request, Response
from fd_router.spliced_body import Body

END_OF_HEAD = b"\r\n\r\n"

HOP_BY_HOP = frozenset(
    (
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te",
        b"upgrade",
    )
)  # fmt: skip
"""Headers that concern one connection only. ``Transfer-Encoding`` is the framing's matter and handled there."""

LONG_BODY = 16 * 1024
"""From so many bytes on, copying a body costs more than writing it as a piece of its own."""

_NOT_IN_VALUE = re.compile(r"[\x00-\x08\n-\x1f\x7f]")
"""Control characters, which would end a header's line."""

_EVENTS = re.compile(rb"(?im)^content-type:[ \t]*text/event-stream\b")
_JSON = re.compile(rb"(?im)^content-type:[ \t]*application/json\b")


def connection_options(value: bytes) -> frozenset[bytes]:
    """Return the options of a ``Connection`` header, in lower case, that are headers to be dropped."""
    if value.lower() in (b"keep-alive", b"close"):
        return frozenset()
    return frozenset(option.strip().lower() for option in value.split(b",")) - HOP_BY_HOP - {b"close"}


def without(headers: Headers, names: Iterable[bytes]) -> Headers:
    """Return ``headers`` less those whose lower-case name is among ``names``."""
    dropped = frozenset(names)
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def header_lines(headers: Headers) -> bytes:
    """Return ``headers`` as lines."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def host_line(authority: bytes) -> bytes:
    """Return the line that names the instance at ``authority`` (``host:port``), and the beginning of the next one."""
    return b"host: %b\r\ncontent-length: " % authority


def request_message(request: Request, host: bytes, body: Body) -> bytes | tuple[bytes, Body]:
    """Return what to send to the instance whose ``host_line`` is ``host``; in two pieces, if ``body`` is long."""
    head, size = request.head, len(body)
    is_short = size < LONG_BODY
    message = b"".join((  # type: ignore[arg-type]  # short ones are bytes; two thirds of what one ``%`` costs
        head.start, host, b"%d" % size, b"\r\nx-request-id: ", request.request_id.encode("latin-1"), b"\r\n",
        head.forward, head.hops, body if is_short else b"",
    ))  # fmt: skip
    return message if is_short else (message, body)


def start_line(method: str, path: str, query: str) -> bytes:
    """Return a request's first line."""
    target = f"{path}?{query}" if query else path
    return b"%b %b HTTP/1.1\r\n" % (method.encode("ascii"), target.encode("latin-1"))


class ResponseHead(msgspec.Struct, frozen=True, gc=False):
    """The head of an instance's answer, less what concerns the connection to the instance only."""

    status: int
    forward: bytes  # status line and header lines, without framing and x-request-id
    length: int = -1  # of the body, in bytes; -1: not told
    chunked: bool = False
    keep_alive: bool = True  # whether the connection to the instance can serve again
    framing: bytes = b""  # the header line that tells how long the body is
    is_delimited: bool = False  # whether the end of the body can be told from a connection that broke

    @classmethod
    def of(
        cls, status: int, forward: bytes, length: int = -1, *, chunked: bool = False, keep_alive: bool = True
    ) -> ResponseHead:
        """Make a head, with what follows from the rest."""
        if length >= 0:
            framing = b"content-length: %d\r\n" % length
        else:
            framing = b"transfer-encoding: chunked\r\n" if chunked else b""
        is_delimited = bool(framing) or status in (204, 304)
        return cls(status, forward, length, chunked, keep_alive, framing, is_delimited)

    def is_streamed(self, *, asked: bool) -> bool:
        """Tell whether the body comes in pieces that each mean something: by its type, else by what was ``asked``."""
        return _EVENTS.search(self.forward) is not None or (asked and _JSON.search(self.forward) is None)

    def is_like(self, other: ResponseHead) -> bool:
        """Tell whether ``other`` is the same but for the body's length, which both tell."""
        return self.length >= 0 and self.with_length(other.length) == other

    def with_length(self, length: int) -> ResponseHead:
        """Return the same head before a body of ``length`` bytes."""
        framing = b"content-length: %d\r\n" % length
        return ResponseHead(self.status, self.forward, length, False, self.keep_alive, framing, True)


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    """Write a time as RFC 9110 section 5.6.7 wants it; by section 6.6.1 every answer made here must tell it."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second))


def response_bytes(
    response: Response,
    request_id: str,
    *,
    now: float,
    close: bool,
    keep_alive_1_0: bool,
    head_only: bool,
    cors: bytes = b"",
    goes_on: bool = False,
) -> bytes:
    """Return a whole answer made by the router itself, at ``now`` (seconds since 1970). Never fails.

    ``cors``: further header lines, see ``http.cors``. ``goes_on``: it is the head of an answer without a length, the
    last of its connection: chunks follow, or, in HTTP/1.0, whatever comes until the connection ends.
    """
    framing = f"content-length: {len(response.body)}\r\n"
    if goes_on:
        close, framing = True, "" if keep_alive_1_0 else "transfer-encoding: chunked\r\n"
    lines = [f"HTTP/1.1 {response.status} {REASONS.get(response.status, 'Unknown')}\r\ndate: {_date(int(now))}\r\n"]
    if response.status != 204:  # RFC 9110 section 8.6
        lines.append(f"content-type: {response.content_type}\r\n{framing}")
    if request_id:
        lines.append(f"x-request-id: {request_id}\r\n")
    lines += [f"{name}: {_NOT_IN_VALUE.sub(' ', value)}\r\n" for name, value in response.headers]
    if close:
        lines.append("connection: close\r\n")
    elif keep_alive_1_0:
        lines.append("connection: keep-alive\r\n")
    head = "".join(lines).encode("latin-1", "replace") + cors + b"\r\n"
    return head if head_only else head + response.body
