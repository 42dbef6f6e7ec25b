"""Small requests of the router's own to an instance: health probes, metrics, aborts. Over the same pools."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fd_router.errors import Retry, UpstreamError
from fd_router.http.connection_pool import InstancePool
from fd_router.http.dechunk import Dechunker
from fd_router.http.heads import ResponseHead
from fd_router.http.upstream_request import UpstreamRequest

MAX_BODY = 4 * 1024 * 1024
"""Bytes of an answer. A /metrics page of an engine has some 100 KB."""


async def fetch(
    pool: InstancePool, method: str, path: str, body: bytes = b"", *, time_limit: float = 5.0
) -> tuple[int, bytes]:
    """Return status and body of the answer. Raises UpstreamError, also when ``time_limit`` (seconds) is over."""
    reply = _Reply(pool, method, path, body)
    try:
        async with asyncio.timeout(time_limit):
            return await reply.receive()
    except TimeoutError:
        detail = f"no answer to {method} {path} within {time_limit:g} s"
        raise UpstreamError("first_byte_timeout", detail, instance=pool.url, status=504) from None
    finally:
        reply.close()


class _Reply(UpstreamRequest):
    """One request under way: a listener of its connection."""

    def __init__(self, pool: InstancePool, method: str, path: str, body: bytes) -> None:
        self._pool = pool
        start = b"%b %b HTTP/1.1\r\nhost: %b\r\naccept: */*\r\ncontent-type: application/json\r\n" % (
            method.encode("ascii"), path.encode("ascii"), pool.authority,
        )  # fmt: skip
        self._request = b"%bcontent-length: %d\r\n%b\r\n%b" % (start, len(body), pool.via, body)
        self._result: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._is_full = False
        self._status = 0
        self._received: list[bytes] = []
        self._take: Callable[[bytes], None] = self._gather
        self._size = 0

    async def receive(self) -> tuple[int, bytes]:
        self._dispatch(self._pool)
        return await self._result

    def close(self) -> None:
        """Give up what is still under way."""
        self._cancel()

    def _message(self) -> bytes:
        return self._request

    def _refuse(self, error: UpstreamError) -> None:
        if not self._result.done():
            self._result.set_exception(error)

    def on_head(self, head: ResponseHead, body: bytes) -> None:
        self._status = head.status
        if head.chunked:
            self._take = Dechunker(self._gather).feed
        self._take(body)

    def on_data(self, data: bytes) -> None:
        self._take(data)

    def _gather(self, content: bytes) -> None:
        self._received.append(content)
        self._size += len(content)
        if self._size > MAX_BODY:
            self._refuse(
                UpstreamError("protocol", f"more than {MAX_BODY} bytes", instance=self._pool.url, retry=Retry.NEVER)
            )

    def on_complete(self) -> None:
        self._connection = None
        if not self._result.done():
            self._result.set_result((self._status, b"".join(self._received)))

    def on_bug(self, error: Exception) -> None:
        if not self._result.done():
            self._result.set_exception(error)

    def on_failed(self, error: UpstreamError, *, stale: bool) -> None:
        self._connection = None
        if stale:
            self._replace()
        else:
            self._refuse(error)
