"""Requests out of bytes, without I/O: what arrives on a client's connection goes in, whole requests come out.

llhttp checks syntax and framing strictly. A head is passed on as it was parsed, never as it was received,
so that no byte sequence is read one way here and another way by an instance.

A client mostly sends the same head again and again, but for the length of the body. A head that is the same
as the one before on its connection has been parsed already (``_read_again``).
"""

from __future__ import annotations

from collections import deque
from io import BytesIO

import httptools

from fd_router.config.sections import ProxyConfig
from fd_router.errors import BadRequestError, HttpError
from fd_router.http.forwarding import FORWARDING_FIELDS, Peer
from fd_router.http.heads import connection_options, header_lines, start_line, without
from fd_router.http.known_head import KnownHead
from fd_router.http.messages import Headers, Request, RequestHead
from fd_router.http.reader_settings import UNAUTHENTICATED_BODY, KeyCheck, ReaderSettings
from fd_router.http.request_fields import (
    CREDENTIALS,
    INSPECTED,
    MAX_FIELDS,
    UNKNOWN_VERSION,
    authorization,
    body_too_large,
    check_content_coding,
    check_expectation,
    check_transfer_coding,
    end_of_first_line,
    first_value,
    head_too_large,
    is_host,
    origin_form,
    trace_id,
)

NO_HEAD = RequestHead("-", "-", keep_alive=False)
"""Of a request that couldn't be understood."""

MAX_PIPELINED = 16
"""Requests that may wait behind the one being answered; then reading stops."""

MAX_HELD = 1024 * 1024
"""Bytes of their bodies that may be there before reading stops."""

IDLE, HEAD, BODY = range(3)
"""A reader's states: between two requests, in a head, in a body."""

_MANY_PARTS = 1024
"""Parts of a body that are kept one by one. Objects of a few bytes cost twenty times what they hold."""

_LARGE = 256 * 1024
"""Bytes of a body from which on its parts are gathered as they come: to join 60 MB of them at its end takes 50 ms."""


class RequestReader:
    """Reads the requests of one connection. ``ready`` holds what is complete, in order.

    An error is the last thing that ``ready`` gets: after it nothing on this connection can be understood.
    """

    __slots__ = (
        "_body", "_body_size", "_first_read", "_gathered", "_head", "_headers", "_inspected", "_is_unauthenticated",
        "_known", "_limit", "_parser", "_reads", "_searched", "_settings", "_target", "_useless", "head_at",
        "is_refused", "peer", "ready", "refused_head", "state", "wants_continue",
    )  # fmt: skip

    def __init__(self, settings: ReaderSettings) -> None:
        self._settings = settings
        self.peer = Peer()
        """The other end of the connection. To be set before anything is fed."""
        self._parser = httptools.HttpRequestParser(self)
        self._head = RequestHead("", "")
        self.head_at = 0.0  # when the last head was complete, by the clock
        self._limit = 0  # bytes of the body being read
        self._is_unauthenticated = False  # it comes without the key that it needs
        self._known: KnownHead[RequestHead] | None = None  # the last head, if it may be used again
        self._first_read = b""  # what the parser was given last when it was idle
        self._reads: list[bytes] = []  # in which the head being read may be …
        self._searched = 0  # … from here on
        self.ready: deque[Request | HttpError] = deque()
        self.is_refused = False
        self.refused_head = NO_HEAD  # what is known of the request that was refused
        self.wants_continue = False  # the client waits for leave to send the body
        self._useless = 0  # bytes received since a head or a part of a body was complete
        self._body_size = 0
        self._gathered: BytesIO | None = None  # the beginning of a body that is large, or came in many parts
        self.on_message_begin()
        self.state = IDLE

    def feed(self, data: bytes) -> None:
        """Take bytes as they were received, in pieces of any size."""
        if self.is_refused:
            return
        if self.state == IDLE:
            if self._known is not None and self._read_again(self._known, data):
                return
            self._first_read = data
        if self.state == HEAD:
            self._reads.append(data)
        else:
            self._reads, self._searched = [data], 0
        self._useless += len(data)
        self._parse(data)
        self._first_read = b""
        if self.state != HEAD:
            self._reads = []
        if self._useless > self._settings.max_head:  # an endless head, or endless trailers
            self.refuse(head_too_large(self._settings.max_head))

    def refuse(self, error: HttpError) -> None:
        """Read no further; ``error`` answers what was being read."""
        if not self.is_refused:
            self.is_refused = True
            self._drop_body()
            self.refused_head = self._read_refused_head()
            self.ready.append(error)

    def close(self) -> None:
        """The connection is gone. The parser and its reader hold each other, which only the collector would end."""
        del self._parser
        self.discard_ready()
        self._drop_body()

    def why_late(self, options: ProxyConfig, now: float) -> str:
        """Say which of the time limits the request that is half here has missed."""
        if self.state != BODY:
            return f"its head took more than {options.client_head_timeout_secs:g} s"
        if now >= self.head_at + options.client_request_timeout_secs:
            return f"its body took more than {options.client_request_timeout_secs:g} s"
        return f"its body paused for more than {options.client_body_timeout_secs:g} s"

    def discard_ready(self) -> None:
        """Forget what is ready: nobody will answer it."""
        self._settings.budget.give_back(self._ready_bytes())
        self.ready.clear()

    @property
    def is_far_ahead(self) -> bool:
        """Whether more waits here, or is still coming, than may be there while another request is answered."""
        return len(self.ready) > MAX_PIPELINED or self._body_size + self._ready_bytes() > MAX_HELD

    def _ready_bytes(self) -> int:
        return sum(len(item.body) for item in self.ready if isinstance(item, Request))

    def _read_again(self, known: KnownHead[RequestHead], data: bytes) -> bool:
        """Take a whole request whose head is the known one. The parser, between two messages, needn't see it."""
        body, head, settings = known.body_of(data), known.meaning, self._settings
        if body is None:
            return False
        size, budget = len(body), settings.budget
        if size > self._limit:  # the path's, so still the right one
            return False
        held = budget.held + size
        if held <= budget.largest:  # nearly always; else the budget has more to say
            budget.held = held
        elif not budget.take(size, size):
            return False
        make_id, clock = settings.make_id, settings.clock
        self.ready.append(Request(head, body, make_id(), clock()))  # one with an id of its own isn't known again
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
            what = "request body" if self.state == BODY else "HTTP request"
            status = 505 if str(error) == UNKNOWN_VERSION else 400
            self.refuse(BadRequestError(f"Invalid {what}: {error}", status=status, code="invalid_http"))
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
        self._reads, self._searched = [start], 0
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(b"%b%b\r\n" % (start, lines))

    # what the parser calls

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._inspected: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self.state = HEAD

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.state == BODY:  # a trailer: nobody's business (RFC 9110 section 6.5.1)
            return
        value = value.rstrip(b" \t")  # optional white space; the parser takes off what is in front of the value
        if (lower := name.lower()) in INSPECTED:
            self._inspected.append((lower, value))
        else:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.head_at = self._settings.clock()
        received, self._useless = self._useless, 0
        self.state = BODY
        try:
            if len(self._headers) + len(self._inspected) > MAX_FIELDS:
                raise BadRequestError(
                    f"The request has more than {MAX_FIELDS} header fields", status=431, code="head_too_large"
                )
            if received > self._settings.max_head:  # this read included, which may bring a body too
                self._check_head_size()
            self._head = self._read_head()
        except HttpError as error:
            self.refuse(error)

    def on_body(self, part: bytes) -> None:
        if self.is_refused:
            return
        self._useless = 0
        size = self._body_size + len(part)
        if size > self._limit:
            self.refuse(self._too_large())
        elif not (budget := self._settings.budget).take(len(part), size):
            self.refuse(budget.refusal())
        else:
            self._body_size = size
            self._body.append(part)
            if size > _LARGE or len(self._body) > _MANY_PARTS:
                self._gather()

    def on_message_complete(self) -> None:
        if self.is_refused or self._parser.should_upgrade():
            return
        head = self._head
        whole = b"".join(self._body) if self._gathered is None else self._gather().getvalue()  # no copies, mostly
        self._body, self._body_size, self._gathered = [], 0, None  # what was taken for it is with the request now
        self._useless = 0
        self.state = IDLE
        self.wants_continue = False
        self.ready.append(Request(head, whole, head.request_id or self._settings.make_id(), self.head_at))
        self._learn(head, len(whole))

    # steps

    def _drop_body(self) -> None:
        self._settings.budget.give_back(self._body_size)
        self._body, self._body_size, self._gathered = [], 0, None

    def _gather(self) -> BytesIO:
        """Write the parts behind those that were gathered, and return all of them."""
        if (gathered := self._gathered) is None:
            gathered = self._gathered = BytesIO()
        gathered.writelines(self._body)
        self._body = []
        return gathered

    def _learn(self, head: RequestHead, length: int) -> None:
        """Remember a head that came in one read with its sized body and nothing else, to know it again."""
        first, self._first_read = self._first_read, b""
        inspected = dict(self._inspected)
        simple = b"content-length" in inspected and not inspected.keys() & {b"expect", b"upgrade", b"x-request-id"}
        recurs = simple and head.keep_alive and not head.trace_id  # each request has one of its own
        self._known = self._settings.heads.learn(first, length, head, self.peer) if recurs else None

    def _read_head(self) -> RequestHead:
        """Make the head of what was parsed. Raises HttpError for what can't be served."""
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise BadRequestError(f"HTTP version {version} is not supported; use HTTP/1.1", status=505)
        self._check_first_line(version)
        method = self._read_method()
        path, _, query = origin_form(self._target.decode("latin-1"), method).partition("?")
        self._limit, self._is_unauthenticated = self._settings.body_limit(path), False
        request_id = self._check_inspected(version)
        headers: Headers = self._headers
        for name, value in self._inspected:
            if name == b"connection" and (options := connection_options(value)):
                headers = without(headers, options)
        return self._make_head(method, (path, query), headers, request_id, is_http_1_0=version == "1.0")

    def _check_inspected(self, version: str) -> str:
        """Check the headers that are the router's matter. Returns the client's request id."""
        request_id, hosts = "", 0
        for name, value in self._inspected:
            if name == b"host":
                hosts += 1 if is_host(value) else 2
            elif name == b"content-length":
                self._check_length(int(value))
            elif name == b"x-request-id":
                request_id = value.decode("latin-1")
            elif name == b"transfer-encoding":
                check_transfer_coding(value, version)
            elif name == b"content-encoding":
                check_content_coding(value)
            elif name == b"expect" and version == "1.1":  # to be ignored in HTTP/1.0: RFC 9110 section 10.1.1
                check_expectation(value)
                self.wants_continue = True
        if hosts > 1 or (hosts == 0 and version == "1.1"):  # RFC 9112 section 3.2
            message = "Invalid HTTP request: exactly one Host header is needed, with a host and perhaps a port"
            raise BadRequestError(message, code="invalid_http")
        return request_id

    def _check_first_line(self, version: str) -> None:
        received = self._reads[0] if len(self._reads) == 1 else b"".join(self._reads)
        self._searched = end_of_first_line(received, self._searched, self._target, version)

    def _make_head(
        self, method: str, target: tuple[str, str], headers: Headers, request_id: str, *, is_http_1_0: bool
    ) -> RequestHead:
        settings, peer = self._settings, self.peer
        credentials = authorization(self._headers)
        if (gate := settings.gate) is not None and self._limit > UNAUTHENTICATED_BODY:
            self._check_key(gate, credentials)
        told = [field for field in self._inspected if field[0] in FORWARDING_FIELDS]
        settings.forwarding.check(told)
        if not settings.keep_authorization:
            headers = without(headers, CREDENTIALS)
        return RequestHead(
            method, *target, headers, request_id, trace_id(headers),
            is_http_1_0, self._parser.should_keep_alive(), header_lines(headers), credentials,
            start_line(method, *target), settings.forwarding.lines(peer, told) + b"\r\n",
            settings.forwarding.client_of(peer, told), first_value(headers, b"x-session-id").decode("latin-1"),
            first_value(headers, b"x-router-continue"),
            self._cors(target[0]), first_value(self._inspected, b"host"),
        )  # fmt: skip

    def _cors(self, path: str) -> bytes:
        cors = self._settings.cors
        return cors.lines(self._headers) if cors is not None and path in self._settings.cors_paths else b""

    def _read_refused_head(self) -> RequestHead:
        """Say whose request is refused, once its head has been parsed."""
        if self.state != BODY:
            return NO_HEAD
        method, version = self._parser.get_method(), self._parser.get_http_version()
        path = self._target.decode("latin-1").partition("?")[0]
        return RequestHead(
            method.decode("ascii"), path, is_http_1_0=version == "1.0", keep_alive=False, client=self.peer.address,
            cors=self._cors(path),
        )  # fmt: skip

    def _read_method(self) -> str:
        method = self._parser.get_method()
        if method == b"CONNECT":
            raise BadRequestError("Invalid HTTP request: this is no proxy for CONNECT", status=501)
        return method.decode("ascii")

    def _check_head_size(self) -> None:
        """Refuse a head that is too large; what else came in the same read doesn't count."""
        size = len(self._target) + sum(len(name) + len(value) + 4 for name, value in self._inspected + self._headers)
        if size > self._settings.max_head:
            raise head_too_large(self._settings.max_head)

    def _check_length(self, length: int) -> None:
        if length > self._limit:
            raise self._too_large()
        if not (budget := self._settings.budget).has_room(length):  # a client is spared to send it in vain
            raise budget.refusal()

    def _too_large(self) -> HttpError:
        gate = self._settings.gate
        if gate is not None and self._is_unauthenticated:
            return gate.refusal(authorization(self._headers))
        return body_too_large(self._limit)

    def _check_key(self, gate: KeyCheck, credentials: bytes) -> None:
        self._is_unauthenticated = not gate.knows(credentials)
        if self._is_unauthenticated:
            self._limit = UNAUTHENTICATED_BODY
            for name, value in self._inspected:
                if name == b"content-length":
                    self._check_length(int(value))

    def __repr__(self) -> str:
        state = "refused" if self.is_refused else ("idle", "head", "body")[self.state]
        return f"<RequestReader {state} ready={len(self.ready)}>"
