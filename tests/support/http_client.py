"""A small HTTP/1.1 client of the tests, which shares no code with the router: one request a connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Self

import httptools
import msgspec

_READ = 65_536


class CutOffError(ConnectionError):
    """The connection ended before the answer did."""


class Answer(msgspec.Struct, frozen=True):
    """A whole answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Parsed:
    """What the parser found so far."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.has_head = False
        self.is_complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.has_head = True

    def on_body(self, body: bytes) -> None:
        self.pieces.append(body)

    def on_message_complete(self) -> None:
        self.is_complete = True


class OpenAnswer:
    """An answer whose head is here. Iterating gives its body's pieces; raises CutOffError where it breaks off."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._parsed = _Parsed()
        self._parser = httptools.HttpResponseParser(self._parsed)
        self.status = 0
        self.headers = self._parsed.headers

    async def read_head(self) -> None:
        """Wait for the head."""
        while not self._parsed.has_head:
            await self._feed()
        self.status = self._parser.get_status_code()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            pieces, self._parsed.pieces = self._parsed.pieces, []
            for piece in pieces:
                yield piece
            if self._parsed.is_complete:
                return
            await self._feed()

    async def read(self) -> bytes:
        """Wait for the end and return the rest of the body."""
        return b"".join([piece async for piece in self])

    async def _feed(self) -> None:
        data = await self._reader.read(_READ)
        sized = "content-length" in self.headers or "transfer-encoding" in self.headers
        if not data and self._parsed.has_head and not sized:
            self._parsed.is_complete = True  # the connection's end is the body's
        elif not data:
            raise CutOffError("the connection ended before the answer did")
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise CutOffError(f"not HTTP/1.1: {error}") from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.transport.abort()


async def send(
    host: str, port: int, method: str, path: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> OpenAnswer:
    """Send a request and return its answer as soon as the head is here; use it in ``async with``.

    Raises OSError when the connection fails.
    """
    reader, writer = await asyncio.open_connection(host, port)
    answer = OpenAnswer(reader, writer)
    try:
        named = f"[{host}]" if ":" in host else host
        lines = [f"{method} {path} HTTP/1.1", f"host: {named}:{port}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body:
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        await answer.read_head()
    except BaseException:  # also when cancelled: nobody else will close it
        writer.transport.abort()
        raise
    return answer


async def fetch(
    host: str, port: int, method: str, path: str, *, body: bytes = b"",
    headers: Mapping[str, str] | None = None, timeout_secs: float = 60.0,
) -> Answer:  # fmt: skip
    """Send a request and return its whole answer. Raises OSError (TimeoutError is one)."""
    async with (
        asyncio.timeout(timeout_secs),
        await send(host, port, method, path, body=body, headers=headers) as answer,
    ):
        return Answer(answer.status, answer.headers, await answer.read())
