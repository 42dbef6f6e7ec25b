"""Requests out of bytes, without I/O: what arrives on a client's connection goes in, whole requests come out.

llhttp checks syntax and framing strictly. A head is passed on as it was parsed, never as it was received,
so that no byte sequence is read one way here and another way by an instance.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import httptools

from fd_router.errors import BadRequestError, HttpError
from fd_router.messages import Headers, Request
from fd_router.proxy.heads import HOP_BY_HOP, connection_options, without

_INSPECTED = HOP_BY_HOP | {
    b"content-length", b"expect", b"host", b"traceparent", b"trailer", b"transfer-encoding", b"x-request-id",
}  # fmt: skip


class RequestReader:
    """Reads the requests of one connection. ``ready`` holds what is complete, in order.

    An error is the last thing that ``ready`` gets: after it nothing on this connection can be understood.
    ``body_limit(request)`` returns the most bytes that the body of a request may have, from its head.
    """

    __slots__ = (
        "_body", "_body_limit", "_body_size", "_clock", "_headers", "_inspected", "_make_id", "_max_head", "_parser",
        "_request", "_target", "head_size", "is_refused", "ready", "state", "wants_continue",
    )  # fmt: skip

    IDLE, HEAD, BODY = range(3)

    def __init__(
        self,
        max_head: int,
        body_limit: Callable[[Request], int],
        clock: Callable[[], float],
        make_id: Callable[[], str],
    ) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._max_head = max_head
        self._body_limit = body_limit
        self._clock = clock
        self._make_id = make_id
        self._request = Request("", "")
        self.ready: deque[Request | HttpError] = deque()
        self.is_refused = False
        self.wants_continue = False  # the client waits for leave to send the body
        self.head_size = 0
        self.on_message_begin()
        self.state = self.IDLE

    def feed(self, data: bytes) -> None:
        """Take bytes as they were received, in pieces of any size."""
        if self.is_refused:
            return
        if self.state != self.BODY:
            self.head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:
            raise  # a bug of ours, not the client's
        except httptools.HttpParserError as error:
            self.refuse(BadRequestError(f"Invalid HTTP request: {error}", code="invalid_http"))
        if self.state != self.BODY and self.head_size > self._max_head:
            self.refuse(_head_too_large(self._max_head))

    def refuse(self, error: HttpError) -> None:
        """Read no further; ``error`` answers what was being read."""
        if not self.is_refused:
            self.is_refused = True
            self.ready.append(error)

    def _decline_upgrade(self, rest: bytes) -> None:
        """Go on in HTTP/1.1, as RFC 9110 section 7.8 allows. Java's client asks for h2c on every request."""
        self._parser = httptools.HttpRequestParser(self)
        if rest:
            self.feed(rest)

    # what the parser calls

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers: Headers = []
        self._inspected: Headers = []
        self._body: list[bytes] = []
        self._body_size = 0
        self.state = self.HEAD

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if (lower := name.lower()) in _INSPECTED:
            self._inspected.append((lower, value))
        else:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        path, _, query = self._target.decode("latin-1").partition("?")
        request = Request(parser.get_method().decode("ascii"), path, query, self._headers)
        request.received_at = self._clock()
        request.keep_alive = parser.should_keep_alive()
        self._request = request
        self.head_size = 0
        self.state = self.BODY
        try:
            self._check(request, parser.get_http_version())
        except HttpError as error:
            self.refuse(error)

    def on_body(self, part: bytes) -> None:
        if self.is_refused:
            return
        self._body_size += len(part)
        if self._body_size > self._body_limit(self._request):
            self.refuse(_body_too_large(self._body_limit(self._request)))
            self._body.clear()
        else:
            self._body.append(part)

    def on_message_complete(self) -> None:
        if self.is_refused:
            return
        body = self._body
        self._request.body = body[0] if len(body) == 1 else b"".join(body)
        self._body = []
        self.state = self.IDLE
        self.wants_continue = False
        self.ready.append(self._request)

    # steps

    def _check(self, request: Request, version: str) -> None:
        """Look at the headers that concern this connection. Raises HttpError."""
        hosts = 0
        for name, value in self._inspected:
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                if int(value) > (limit := self._body_limit(request)):
                    raise _body_too_large(limit)
            elif name == b"x-request-id":
                request.request_id = value.decode("latin-1")
            elif name == b"traceparent":
                request.traceparent = value
                request.headers.append((name, value))
            elif name == b"expect":
                self._expect(value)
            elif name == b"connection":
                self._drop_connection_options(request, value)
        if not request.request_id:
            request.request_id = self._make_id()
        request.http_1_0 = version == "1.0"
        if version not in ("1.1", "1.0"):
            raise BadRequestError(f"HTTP version {version} is not supported; use HTTP/1.1", status=505)
        if hosts > 1 or (hosts == 0 and version == "1.1"):  # RFC 9112 section 3.2
            raise BadRequestError("Invalid HTTP request: exactly one Host header is needed", code="invalid_http")
        if not request.path.startswith("/"):
            _use_origin_form(request)

    def _expect(self, value: bytes) -> None:
        if value.strip().lower() != b"100-continue":
            raise BadRequestError("The expectation in the Expect header can't be met", status=417)
        self.wants_continue = True

    @staticmethod
    def _drop_connection_options(request: Request, value: bytes) -> None:
        """Headers named by ``Connection`` concern this connection only (RFC 9110 section 7.6.1)."""
        if options := connection_options(value) - HOP_BY_HOP - {b"close"}:
            request.headers = without(request.headers, options)

    def __repr__(self) -> str:
        state = "refused" if self.is_refused else ("idle", "head", "body")[self.state]
        return f"<RequestReader {state} ready={len(self.ready)}>"


def _use_origin_form(request: Request) -> None:
    """Reduce ``http://host/path`` to ``/path`` (RFC 9112 section 3.2.2); other forms have no meaning here."""
    scheme, found, rest = request.path.partition("://")
    if request.path == "*":
        return
    if not found or scheme.lower() not in ("http", "https"):
        raise BadRequestError("Invalid HTTP request: the target must be a path", code="invalid_http")
    request.path = "/" + rest.partition("/")[2]


def _head_too_large(limit: int) -> BadRequestError:
    return BadRequestError(f"The request's head is larger than {limit // 1024} KB", status=431, code="head_too_large")


def _body_too_large(limit: int) -> BadRequestError:
    message = f"The request's body is larger than {limit // 1024} KB"
    return BadRequestError(message, status=413, code="body_too_large")
