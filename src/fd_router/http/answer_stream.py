"""An answer that is awaited: first its head, then its body piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Self

from fd_router.errors import UpstreamError
from fd_router.http.client_request import NO_HEADERS, ClientRequest
from fd_router.http.connection_pool import InstancePool

HIGH_WATER = 256 * 1024
"""Bytes nobody has taken yet, from which on no more are read."""


class AnswerStream:
    """One request's answer. ``async with`` sends the request and waits for the head; iterating gives the body.

    Both raise UpstreamError where the answer breaks off. Leaving ends what is still under way.
    """

    def __init__(self, pool: InstancePool, request: bytes) -> None:
        self._pool = pool
        self._message = request
        self._request: ClientRequest | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._news = asyncio.Event()
        self._is_complete = False
        self._error: UpstreamError | None = None
        self.status = 0  # 0: no head yet
        self.headers: Mapping[str, str] = NO_HEADERS

    async def __aenter__(self) -> Self:
        self._request = ClientRequest(self._pool, self._message, self)
        try:
            while not self.status:
                await self._wait()
        except BaseException:  # also when cancelled: nobody else will close it
            self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        request, self._request = self._request, None  # no cycles: what is over is freed at once
        if request is not None:
            request.cancel()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            for piece in self._taken():
                yield piece
            if self._is_complete and not self._pieces:
                return
            await self._wait()

    async def read(self) -> bytes:
        """Wait for the end and return the rest of the body."""
        return b"".join([piece async for piece in self])

    def _taken(self) -> list[bytes]:
        pieces, self._pieces = self._pieces, []
        if self._size > HIGH_WATER and self._request is not None:
            self._request.resume()
        self._size = 0
        return pieces

    async def _wait(self) -> None:
        """Return when there is more; what came before an error is given first."""
        if not self._pieces and not self._is_complete:
            if self._error is not None:
                raise self._error.again()
            self._news.clear()
            await self._news.wait()

    # what the request calls

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        """The head is here."""
        self.status, self.headers = status, headers
        self._news.set()

    def on_data(self, content: bytes) -> None:
        """More of the body is here."""
        self._pieces.append(content)
        self._size += len(content)
        if self._size > HIGH_WATER and self._request is not None:
            self._request.pause()
        self._news.set()

    def on_complete(self) -> None:
        """The answer is whole."""
        self._is_complete = True
        self._news.set()

    def on_failed(self, error: UpstreamError) -> None:
        """The answer won't come, or won't end."""
        self._error = error
        self._news.set()

    def __repr__(self) -> str:
        state = "whole" if self._is_complete else "failed" if self._error else "open"
        return f"<AnswerStream {self._pool.url} {self.status or 'no head'} {state}>"
