"""Requests out of bytes, without I/O: what arrives on a client's connection goes in, whole requests come out.

llhttp checks syntax and framing strictly. A head is passed on as it was parsed, never as it was received,
so that no byte sequence is read one way here and another way by an instance.

A client mostly sends the same head again and again, but for the length of the body. A head that is the same
as the one before on its connection has been parsed already (``_read_again``).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Protocol

import httptools

from fd_router.config.live import LiveConfig
from fd_router.config.sections import ProxyConfig
from fd_router.errors import BadRequestError, HttpError
from fd_router.http.heads import HOP_BY_HOP, KnownHead, connection_options, header_lines, start_line, without
from fd_router.http.messages import Headers, Request, RequestHead

_INSPECTED = HOP_BY_HOP | {b"content-length", b"expect", b"host", b"trailer", b"transfer-encoding", b"x-request-id"}
"""Headers that the router reads, and writes anew where they are needed."""

_AUTHORITY = re.compile(r"[^/?#]*")

_HOST = re.compile(rb"(?:\[[0-9A-Za-z:.%_~-]+\]|[0-9A-Za-z!$&'()*+,;=%._~-]*)(?::[0-9]*)?")
"""RFC 9110 section 7.2, RFC 3986 section 3.2.2."""

NO_HEAD = RequestHead("-", "-", keep_alive=False)
"""Of a request that couldn't be understood."""

UNAUTHENTICATED_BODY = 1024 * 1024
"""Bytes of a body that are taken from a client without an API key, where one is needed. Keys are looked at when a
request is whole; until then anybody could have the router hold as much as the largest body, on each connection."""

_MANY_PARTS = 1024
"""Parts of a body that are kept one by one. Objects of a few bytes cost twenty times what they hold."""


class KeyCheck(Protocol):
    """Who may send a large body: see ``admission.api_key_gate``."""

    def knows(self, authorization: bytes) -> bool:
        """Tell whether that header's value shows a key in force."""

    def refusal(self, authorization: bytes) -> HttpError:
        """Count a request without a key in force, and return its answer."""


class ReaderSettings:
    """What the readers of all connections share.

    ``body_limit(path)`` returns the most bytes that a body sent to ``path`` may have. ``keep_authorization``: the
    Authorization header is sent on. ``gate``: who needs a key for a path whose limit is above ``UNAUTHENTICATED_BODY``.
    """

    __slots__ = ("body_limit", "clock", "gate", "keep_authorization", "make_id", "max_head")

    def __init__(
        self,
        live: LiveConfig,
        body_limit: Callable[[str], int],
        clock: Callable[[], float],
        make_id: Callable[[], str],
        *,
        keep_authorization: bool = True,
        gate: KeyCheck | None = None,
    ) -> None:
        self.keep_authorization = keep_authorization
        self.gate = gate
        self.max_head: int  # bytes
        live.subscribe(ProxyConfig, self._on_options)
        self.body_limit = body_limit
        self.clock = clock
        self.make_id = make_id

    def _on_options(self, options: ProxyConfig) -> None:
        self.max_head = options.max_head_kb * 1024


class RequestReader:
    """Reads the requests of one connection. ``ready`` holds what is complete, in order.

    An error is the last thing that ``ready`` gets: after it nothing on this connection can be understood.
    """

    __slots__ = (
        "_again", "_body", "_body_size", "_first_read", "_head", "_headers", "_inspected", "_is_unauthenticated",
        "_known",
        "_limit", "_parser", "_settings", "_target", "_useless", "head_at", "is_refused", "ready", "refused_head",
        "state", "wants_continue",
    )  # fmt: skip

    IDLE, HEAD, BODY = range(3)

    def __init__(self, settings: ReaderSettings) -> None:
        self._settings = settings
        self._parser = httptools.HttpRequestParser(self)
        self._head = RequestHead("", "")
        self.head_at = 0.0  # when the last head was complete, by the clock
        self._limit = 0  # bytes of the body being read
        self._is_unauthenticated = False  # it comes without the key that it needs
        self._known: KnownHead | None = None  # the last head, if it may be used again …
        self._again = self._head  # … and what it means
        self._first_read = b""  # what the parser was given last when it was idle
        self.ready: deque[Request | HttpError] = deque()
        self.is_refused = False
        self.refused_head = NO_HEAD  # what is known of the request that was refused
        self.wants_continue = False  # the client waits for leave to send the body
        self._useless = 0  # bytes received since a head or a part of a body was complete
        self.on_message_begin()
        self.state = self.IDLE

    def feed(self, data: bytes) -> None:
        """Take bytes as they were received, in pieces of any size."""
        if self.is_refused:
            return
        if self.state == self.IDLE:
            if self._known is not None and self._read_again(self._known, data):
                return
            self._first_read = data
        self._useless += len(data)
        self._parse(data)
        self._first_read = b""
        if self._useless > self._settings.max_head:  # an endless head, or endless trailers
            self.refuse(_head_too_large(self._settings.max_head))

    def refuse(self, error: HttpError) -> None:
        """Read no further; ``error`` answers what was being read."""
        if not self.is_refused:
            self.is_refused = True
            self.refused_head = self._read_refused_head()
            self.ready.append(error)

    def close(self) -> None:
        """The connection is gone. The parser and its reader hold each other, which only the collector would end."""
        del self._parser

    @property
    def held(self) -> int:
        """Bytes of bodies that wait here, or are still coming."""
        return self._body_size * (self.state == self.BODY) + sum(
            len(item.body) for item in self.ready if isinstance(item, Request)
        )

    def _read_again(self, known: KnownHead, data: bytes) -> bool:
        """Take a whole request whose head is the known one. The parser, between two messages, needn't see it."""
        body, head, settings = known.body_of(data), self._again, self._settings
        if body is None or len(body) > self._limit:  # the path's, so still the right one
            return False
        self.ready.append(Request(head, body, head.request_id or settings.make_id(), settings.clock()))
        return True

    def _parse(self, data: bytes) -> None:
        rest: bytes | memoryview | None = data
        while rest:
            rest = self._parse_on(rest)

    def _parse_on(self, data: bytes | memoryview) -> memoryview | None:
        """Give the parser ``data``. Returns what is still to be parsed after a declined upgrade, else None."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self.is_refused:
                self._decline_upgrade()
                return memoryview(data)[upgrade.args[0] :]  # no copies: there may be many requests in one read
        except httptools.HttpParserCallbackError:
            raise  # a bug of ours, not the client's
        except httptools.HttpParserError as error:
            what = "request body" if self.state == self.BODY else "HTTP request"
            self.refuse(BadRequestError(f"Invalid {what}: {error}", code="invalid_http"))
        return None

    def _decline_upgrade(self) -> None:
        """Go on in HTTP/1.1, as RFC 9110 section 7.8 allows: read the head again as if it didn't ask for more.

        Java's client asks for h2c on every request. The parser takes what follows for another protocol's, but
        it is the request's body.
        """
        lines = header_lines([header for header in self._inspected if header[0] != b"upgrade"] + self._headers)
        start = b"%b %b HTTP/%b\r\n" % (
            self._parser.get_method(), self._target, self._parser.get_http_version().encode("ascii"),
        )  # fmt: skip
        self._first_read = b""
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(b"%b%b\r\n" % (start, lines))

    # what the parser calls

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._inspected: list[tuple[bytes, bytes]] = []
        self._body: list[bytes | bytearray] = []
        self._body_size = 0
        self.state = self.HEAD

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.state == self.BODY:  # a trailer: nobody's business (RFC 9110 section 6.5.1)
            return
        if (lower := name.lower()) in _INSPECTED:
            self._inspected.append((lower, value))
        else:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.head_at = self._settings.clock()
        received, self._useless = self._useless, 0
        self.state = self.BODY
        try:
            if received > self._settings.max_head:  # this read included, which may bring a body too
                self._check_head_size()
            self._head = self._read_head()
        except HttpError as error:
            self.refuse(error)

    def on_body(self, part: bytes) -> None:
        if self.is_refused:
            return
        self._useless = 0
        self._body_size += len(part)
        if self._body_size > self._limit:
            self.refuse(self._too_large())
            self._body.clear()
        else:
            self._body.append(part)
            if len(self._body) > _MANY_PARTS:
                self._merge_parts()

    def on_message_complete(self) -> None:
        if self.is_refused or self._parser.should_upgrade():
            return
        body, head = self._body, self._head
        whole = bytes(body[0]) if len(body) == 1 else b"".join(body)  # bytes of bytes are no copy
        self._body = []
        self._useless = 0
        self.state = self.IDLE
        self.wants_continue = False
        self.ready.append(Request(head, whole, head.request_id or self._settings.make_id(), self.head_at))
        self._learn(head, len(whole))

    # steps

    def _merge_parts(self) -> None:
        first, *others = self._body
        merged = first if isinstance(first, bytearray) else bytearray(first)
        merged += b"".join(others)
        self._body = [merged]

    def _learn(self, head: RequestHead, length: int) -> None:
        """Remember a head that came in one read with its sized body and nothing else, to know it again."""
        first, self._first_read = self._first_read, b""
        inspected = dict(self._inspected)
        simple = b"content-length" in inspected and not inspected.keys() & {b"expect", b"upgrade", b"x-request-id"}
        self._known = KnownHead.learn(first, length) if simple and head.keep_alive else None
        self._again = head

    def _read_head(self) -> RequestHead:
        """Make the head of what was parsed. Raises HttpError for what can't be served."""
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise BadRequestError(f"HTTP version {version} is not supported; use HTTP/1.1", status=505)
        method = self._read_method()
        path, _, query = _origin_form(self._target.decode("latin-1")).partition("?")
        self._limit, self._is_unauthenticated = self._settings.body_limit(path), False
        headers: Headers = self._headers
        request_id, hosts = "", 0
        for name, value in self._inspected:
            if name == b"host":
                hosts += 1 if _HOST.fullmatch(value) else 2
            elif name == b"content-length":
                self._check_length(int(value))
            elif name == b"x-request-id":
                request_id = value.decode("latin-1")
            elif name == b"transfer-encoding":
                _check_coding(value, version)
            elif name == b"expect" and version == "1.1":  # to be ignored in HTTP/1.0: RFC 9110 section 10.1.1
                self._expect(value)
            elif name == b"connection" and (options := connection_options(value)):
                headers = without(headers, options)
        if hosts > 1 or (hosts == 0 and version == "1.1"):  # RFC 9112 section 3.2
            message = "Invalid HTTP request: exactly one Host header is needed, with a host and perhaps a port"
            raise BadRequestError(message, code="invalid_http")
        return self._make_head(method, (path, query), headers, request_id, is_http_1_0=version == "1.0")

    def _make_head(
        self, method: str, target: tuple[str, str], headers: Headers, request_id: str, *, is_http_1_0: bool
    ) -> RequestHead:
        authorization = _authorization(self._headers)
        if (gate := self._settings.gate) is not None and self._limit > UNAUTHENTICATED_BODY:
            self._check_key(gate, authorization)
        if not self._settings.keep_authorization:
            headers = without(headers, (b"authorization",))
        return RequestHead(
            method, *target, headers, request_id, _traceparent(headers),
            is_http_1_0, self._parser.should_keep_alive(), header_lines(headers), authorization,
            start_line(method, *target),
        )  # fmt: skip

    def _read_refused_head(self) -> RequestHead:
        """Say whose request is refused, once its head has been parsed."""
        if self.state != self.BODY:
            return NO_HEAD
        method, version = self._parser.get_method(), self._parser.get_http_version()
        path = self._target.decode("latin-1").partition("?")[0]
        return RequestHead(method.decode("ascii"), path, is_http_1_0=version == "1.0", keep_alive=False)

    def _read_method(self) -> str:
        method = self._parser.get_method()
        if method == b"CONNECT":
            raise BadRequestError("Invalid HTTP request: this is no proxy for CONNECT", status=501)
        return method.decode("ascii")

    def _check_head_size(self) -> None:
        size = len(self._target) + sum(len(name) + len(value) + 4 for name, value in self._inspected + self._headers)
        if size > self._settings.max_head:
            raise _head_too_large(self._settings.max_head)

    def _check_length(self, length: int) -> None:
        if length > self._limit:
            raise self._too_large()

    def _too_large(self) -> HttpError:
        gate = self._settings.gate
        if gate is not None and self._is_unauthenticated:
            return gate.refusal(_authorization(self._headers))
        return _body_too_large(self._limit)

    def _check_key(self, gate: KeyCheck, authorization: bytes) -> None:
        self._is_unauthenticated = not gate.knows(authorization)
        if self._is_unauthenticated:
            self._limit = UNAUTHENTICATED_BODY
            for name, value in self._inspected:
                if name == b"content-length":
                    self._check_length(int(value))

    def _expect(self, value: bytes) -> None:
        if value.strip().lower() != b"100-continue":
            raise BadRequestError("The expectation in the Expect header can't be met", status=417)
        self.wants_continue = True

    def __repr__(self) -> str:
        state = "refused" if self.is_refused else ("idle", "head", "body")[self.state]
        return f"<RequestReader {state} ready={len(self.ready)}>"


def _origin_form(target: str) -> str:
    """Reduce ``http://host/path`` to ``/path`` (RFC 9112 section 3.2.2); other forms have no meaning here."""
    if target.startswith("/") or target == "*":
        return target
    scheme, found, rest = target.partition("://")
    if not found or scheme.lower() not in ("http", "https"):
        raise BadRequestError("Invalid HTTP request: the target must be a path", code="invalid_http")
    path = _AUTHORITY.sub("", rest, count=1)
    return path if path.startswith("/") else "/" + path


def _check_coding(value: bytes, version: str) -> None:
    """Refuse a body that was encoded for the way to here in more than chunks, since nobody behind could read it."""
    if version == "1.0":  # RFC 9112 section 6.1: faulty framing
        raise BadRequestError("Invalid HTTP request: HTTP/1.0 knows no Transfer-Encoding", code="invalid_http")
    if value.strip().lower() != b"chunked":
        raise BadRequestError("The only Transfer-Encoding that is supported is chunked", status=501)


def _authorization(headers: Headers) -> bytes:
    """Return the credentials, none when there are several: two readers might go by different ones."""
    found = [value for name, value in headers if name.lower() == b"authorization"]
    return found[0] if len(found) == 1 else b""


def _traceparent(headers: Headers) -> bytes:
    for name, value in headers:
        if name.lower() == b"traceparent":
            return value
    return b""


def _head_too_large(limit: int) -> BadRequestError:
    return BadRequestError(f"The request's head is larger than {limit // 1024} KB", status=431, code="head_too_large")


def _body_too_large(limit: int) -> BadRequestError:
    message = f"The request's body is larger than {limit // 1024} KB"
    return BadRequestError(message, status=413, code="body_too_large")
