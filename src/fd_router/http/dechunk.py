"""Chunked bodies without their chunks' sizes (RFC 9112 section 7.1): HTTP/1.0 clients don't know chunks."""

from __future__ import annotations

from collections.abc import Callable

import httptools

_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def dechunked(body: bytes) -> bytes:
    """Return the content of a chunked body, whole or its beginning, whose syntax has been checked on the way in."""
    content: list[bytes] = []
    dechunker = Dechunker(content.append)
    try:
        dechunker.feed(body)
    finally:
        dechunker.close()
    return b"".join(content)


class Dechunker:
    """Takes a chunked body's bytes as they come and gives the content to ``write``."""

    __slots__ = ("_parser", "_write", "is_over")

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self.is_over = False
        """Whether the last chunk has come, and the trailers behind it."""
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(_HEAD)

    def feed(self, data: bytes) -> None:
        """Take more of the body. Its syntax has been checked on the way in."""
        self._parser.feed_data(data)

    def close(self) -> None:
        """Let go of the parser, which refers back to this."""
        del self._parser

    def on_body(self, content: bytes) -> None:
        """Called by the parser."""
        self._write(content)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self.is_over = True
