"""Small requests of the router's own to an instance: health probes, metrics, aborts. Over the same pools."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from fd_router.errors import Retry, UpstreamError
from fd_router.http.client_request import NO_HEADERS, ClientRequest, request_bytes
from fd_router.http.connection_pool import InstancePool

MAX_BODY = 4 * 1024 * 1024
"""Bytes of an answer. A /metrics page of an engine has some 100 KB."""


async def fetch(
    pool: InstancePool,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    time_limit: float = 5.0,
    headers: Mapping[str, str] = NO_HEADERS,
) -> tuple[int, bytes]:
    """Return status and body of the answer. Raises UpstreamError, also when ``time_limit`` (seconds) is over.

    ``headers``: beside the router's own, which come first where they say the same.
    """
    reply = _Reply(pool, request_bytes(method, path, pool.authority, body, {**headers, **pool.own_headers}))
    late = f"no answer to {method} {path} within {time_limit:g} s"
    timer = asyncio.get_running_loop().call_later(time_limit, reply.on_late, late)  # a third of asyncio.timeout's cost
    try:
        return await reply.receive()
    finally:
        timer.cancel()
        reply.close()


class _Reply:
    """One request under way: the listener of its answer."""

    def __init__(self, pool: InstancePool, request: bytes) -> None:
        self._url = pool.url
        self._result: asyncio.Future[tuple[int, bytes] | UpstreamError] = asyncio.get_running_loop().create_future()
        self._status = 0
        self._received: list[bytes] = []
        self._size = 0
        self._request: ClientRequest | None = ClientRequest(pool, request, self)

    async def receive(self) -> tuple[int, bytes]:
        """Wait for the whole answer."""
        result = await self._result
        if isinstance(result, UpstreamError):
            raise result.again()
        return result

    def on_late(self, detail: str) -> None:
        """The time is over."""
        self.on_failed(UpstreamError("first_byte_timeout", detail, instance=self._url, status=504))

    def close(self) -> None:
        """Give up what is still under way."""
        request, self._request = self._request, None  # no cycles: a probe is freed at once
        if request is not None:
            request.cancel()

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:  # noqa: ARG002
        """The head is here."""
        self._status = status

    def on_data(self, content: bytes) -> None:
        """More of the body is here."""
        self._received.append(content)
        self._size += len(content)
        if self._size > MAX_BODY:
            self.on_failed(
                UpstreamError("protocol", f"more than {MAX_BODY} bytes", instance=self._url, retry=Retry.NEVER)
            )

    def on_complete(self) -> None:
        """The answer is whole."""
        if not self._result.done():
            self._result.set_result((self._status, b"".join(self._received)))

    def on_failed(self, error: UpstreamError) -> None:
        """The answer won't come, or is too long."""
        if not self._result.done():
            self._result.set_result(error)
