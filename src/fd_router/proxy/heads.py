"""Message heads: what is passed on, what is not (RFC 9110 section 7.6, RFC 9112), and their bytes."""

from __future__ import annotations

from collections.abc import Iterable

from fd_router.messages import REASONS, Headers, Request, Response

CRLF = b"\r\n"
END_OF_HEAD = b"\r\n\r\n"

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te", b"upgrade")
)
"""Headers that concern one connection only. ``Transfer-Encoding`` is the framing's matter and handled there."""

VIA = b"via: 1.1 fd-router\r\n"


def connection_options(value: bytes) -> frozenset[bytes]:
    """Return the options of a ``Connection`` header, in lower case."""
    return frozenset(option.strip().lower() for option in value.split(b","))


def without(headers: Headers, names: Iterable[bytes]) -> Headers:
    """Return ``headers`` less those whose lower-case name is among ``names``."""
    dropped = frozenset(names)
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def request_head_tail(request: Request) -> bytes:
    """Return the part of the head sent to an instance that is the same for every instance, blank line included."""
    parts = [b"content-length: %d\r\nx-request-id: " % len(request.body), request.request_id.encode("latin-1"), CRLF, VIA]
    for name, value in request.headers:
        parts += (name, b": ", value, CRLF)
    parts.append(CRLF)
    return b"".join(parts)


def request_head_start(request: Request, authority: bytes) -> bytes:
    """Return request line and ``Host`` for the instance at ``authority`` (``host:port``)."""
    target = f"{request.path}?{request.query}" if request.query else request.path
    return b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (request.method.encode("ascii"), target.encode("latin-1"), authority)


class ResponseHead:
    """The head of an instance's answer, less what concerns the connection to the instance only."""

    __slots__ = ("chunked", "keep_alive", "length", "lines", "reason", "status")

    def __init__(self) -> None:
        self.status = 0
        self.reason = b""
        self.lines: list[bytes] = []  # name, b": ", value, CRLF, name, …
        self.chunked = False
        self.length = -1  # of the body, in bytes; -1: not told
        self.keep_alive = True  # whether the connection to the instance can serve again

    @property
    def is_delimited(self) -> bool:
        """Whether the end of the body can be told from a connection that broke."""
        return self.chunked or self.length >= 0 or self.status in (204, 304)

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of header ``name`` (lower case), or None."""
        lines = self.lines
        for i in range(0, len(lines), 4):
            if lines[i].lower() == name:
                return lines[i + 2]
        return None

    def drop(self, names: Iterable[bytes]) -> None:
        """Take out the headers with these lower-case names."""
        dropped, lines = frozenset(names), self.lines
        kept = [lines[i : i + 4] for i in range(0, len(lines), 4) if lines[i].lower() not in dropped]
        self.lines = [part for line in kept for part in line]

    def to_bytes(self, *extra: bytes) -> bytes:
        """Return the head for the client: status line, headers as they came, ``extra`` lines, blank line."""
        return b"".join([b"HTTP/1.1 %d %b\r\n" % (self.status, self.reason), *self.lines, *extra, CRLF])

    def __repr__(self) -> str:
        framing = "chunked" if self.chunked else f"{self.length} B" if self.length >= 0 else "until close"
        return f"<ResponseHead {self.status} {framing}>"


def response_bytes(response: Response, request_id: str, *, close: bool, keep_alive_1_0: bool, head_only: bool) -> bytes:
    """Return a whole answer made by the router itself."""
    lines = [
        f"HTTP/1.1 {response.status} {REASONS.get(response.status, 'Unknown')}\r\n"
        f"content-type: {response.content_type}\r\ncontent-length: {len(response.body)}\r\n"
    ]
    if request_id:
        lines.append(f"x-request-id: {request_id}\r\n")
    lines += [f"{name}: {value}\r\n" for name, value in response.headers]
    if close:
        lines.append("connection: close\r\n")
    elif keep_alive_1_0:
        lines.append("connection: keep-alive\r\n")
    head = ("".join(lines) + "\r\n").encode("latin-1")
    return head if head_only else head + response.body
