"""Answers out of bytes, without I/O: llhttp checks syntax and framing, and the head is made fit to be passed on."""

from __future__ import annotations

import re
from collections.abc import Callable

import httptools

from fd_router.http.heads import END_OF_HEAD, ResponseHead, connection_options, header_lines, without
from fd_router.http.known_stream_head import KnownStreamHead
from fd_router.http.messages import Headers

MAX_HEAD = 64 * 1024
"""Bytes of an answer's head. Engines send a few hundred."""

_NOT_IN_REASON = re.compile(rb"[^\t -~\x80-\xff]")
"""Control characters, which the parser lets pass in a reason phrase only."""

_INTERIM = re.compile(rb"HTTP/[0-9]\.[0-9] 1")

_FIRST_LINE = b"HTTP/1.1 "
_ONE = ord("1")
"""How an answer begins nearly always, and what its status doesn't begin with."""


class AnswerReader:
    """Reads the answers that come on one connection to an instance, one at a time. The body isn't decoded.

    A stream's head is mostly the one before. Then a parser that tells of no header lines takes the answer.
    """

    __slots__ = (
        "_bare", "_headers", "_inspected", "_known", "_names", "_on_complete", "_parser", "_reason", "begun", "head",
        "head_size", "is_complete", "parser", "unfit",
    )  # fmt: skip

    def __init__(self, inspected: frozenset[bytes], on_complete: Callable[[], None]) -> None:
        """``inspected``: names of headers that aren't handed on as they came, in lower case.

        ``on_complete`` is called with the read in which a final answer comes to its end.
        """
        self._names = inspected
        self._on_complete = on_complete
        self._parser = httptools.HttpResponseParser(self)
        self._known: KnownStreamHead | None = None  # the last head of a stream, and …
        self._bare: httptools.HttpResponseParser | None = None  # … who takes answers that begin with it
        self.begin()

    def begin(self) -> None:
        """Expect the next answer."""
        self.parser = self._parser
        """Takes bytes as they were received, the first ones aside."""
        self.head: ResponseHead | None = None  # once it is complete
        self.head_size = 0
        """Its bytes, if it was seen before, and nothing was wrong with it."""
        self.begun = 0  # message beginnings seen
        self.is_complete = False
        self.unfit = (
            ""  # why the answer can't be passed on, or its connection kept, with which the parser found no fault
        )
        self._reason = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._inspected: list[tuple[bytes, bytes]] = []

    def feed_first(self, data: bytes) -> None:
        """Take the first bytes of an answer. Raises httptools.HttpParserError."""
        known = self._known
        if known is not None and known.begins(data) and self._bare is not None:
            self.head, self.head_size = known.head, known.size
            self.parser = self._bare
        self.parser.feed_data(data)

    def learn(self, data: bytes, head: ResponseHead) -> None:
        """Remember the head of a stream, which ``data`` is: there is nothing wrong with it."""
        self._known = KnownStreamHead(data, head)
        if self._bare is None:
            self._bare = httptools.HttpResponseParser(_Bare(self))

    def why_unfit(self, head: ResponseHead, data: bytes, at: int) -> str:
        """Say what is wrong with an answer whose body begins at ``at``, although the parser let it pass."""
        if head.status < 200:  # a final one, or it would not be here
            return f"the answer's status is {head.status}"
        if self.unfit:
            return self.unfit
        if not data.startswith(_FIRST_LINE):
            if not data.startswith(b"HTTP/1.0 "):
                return "the answer isn't HTTP/1.1"  # the parser knows RTSP and HTTP/2.0 as well
            if head.chunked:
                return "the answer is chunked, which HTTP/1.0 doesn't know"  # RFC 9112 section 6.1: faulty framing
        return f"the answer's head is longer than {MAX_HEAD} bytes" if at > MAX_HEAD else ""

    def close(self) -> None:
        """The connection is gone. The parser and this hold each other, which only the collector would end."""
        del self._parser, self._bare, self.parser, self._on_complete

    # what the parser calls

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        value = value.rstrip(b" \t")  # optional white space; the parser takes off what is in front of the value
        if (lower := name.lower()) in self._names:
            self._inspected.append((lower, value))
        else:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        headers: Headers = self._headers
        length, chunked, reusable = -1, False, self._parser.should_keep_alive()
        for name, value in self._inspected:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                if chunked or value.lower() != b"chunked":
                    self.unfit = "the answer has a transfer coding that nobody asked for"
                chunked = True
            elif name == b"connection" and (options := connection_options(value)):
                headers = without(headers, options)
        status = self._parser.get_status_code()
        if status in (204, 304) and (chunked or length >= 0):  # who says so may send a body all the same
            length, chunked, reusable = -1, False, False
        forward = b"HTTP/1.1 %d %b\r\n%b" % (status, _NOT_IN_REASON.sub(b"", self._reason), header_lines(headers))
        self.head = ResponseHead.of(status, forward, length, chunked=chunked, keep_alive=reusable)

    def on_message_complete(self) -> None:
        if self.head is not None and 100 <= self.head.status < 200 and self.begun == 1:  # not behind a final one
            self.begin()  # an interim answer (RFC 9110 section 15.2) is nobody's business here
        else:
            self.is_complete = True
            self._on_complete()

    def __repr__(self) -> str:
        return (
            f"<AnswerReader {'complete' if self.is_complete else 'head' if self.head is not None else 'nothing yet'}>"
        )


class _Bare:
    """What a parser calls that needn't tell of a head."""

    __slots__ = ("on_message_begin", "on_message_complete")

    def __init__(self, reader: AnswerReader) -> None:
        self.on_message_begin = reader.on_message_begin
        self.on_message_complete = reader.on_message_complete


def after_interim_heads(data: bytes) -> bytes:
    """Cut off 1xx heads, and blank lines, that came before the real one."""
    data = data.lstrip(b"\r\n")
    while _INTERIM.match(data) and (end := data.find(END_OF_HEAD)) >= 0:
        data = data[end + 4 :].lstrip(b"\r\n")
    return data


def from_final_head(data: bytes, head: ResponseHead) -> bytes:
    """Return ``data``, in which the parser found ``head``, from there on."""
    if head.status >= 200 and (data[:9] != _FIRST_LINE or data[9] == _ONE):
        return after_interim_heads(data)
    return data
