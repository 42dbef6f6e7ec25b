"""An HTTP client for tools: requests to any server, over the connections that the router uses for its instances."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from fd_router.config.host_names import authority
from fd_router.config.live import LiveConfig
from fd_router.config.sections import Config, ProxyConfig
from fd_router.errors import UpstreamError
from fd_router.http.answer_stream import AnswerStream
from fd_router.http.client_request import NO_HEADERS, AnswerListener, ClientRequest, request_bytes
from fd_router.http.connection_pool import Pools
from fd_router.http.deadlines import DeadlineSweeper
from fd_router.http.instance_access import PLAIN, InstanceAccess
from fd_router.http.write_batcher import WriteBatcher

CONNECT_SECS = 3.0
ALL = 100_000
"""Idle connections to one server: as many as were needed at once."""


class Origin(msgspec.Struct, frozen=True):
    """Where a server listens: a name or an IP address (without brackets), and a port."""

    access: ClassVar[InstanceAccess] = PLAIN

    host: str
    port: int

    @property
    def key(self) -> str:
        """``host:port``, brackets around an IPv6 host."""
        return authority(self.host, self.port)


class Answer(msgspec.Struct, frozen=True):
    """A whole answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """Requests over kept connections. Nothing but connecting is timed here: who waits for an answer says how long.

    Make it in a running loop. ``keep``: how many idle connections to a server are kept. What is under way is its
    sender's to cancel; ``close`` ends the connections that are idle, and the others after their answers.
    """

    def __init__(self, *, connect_secs: float = CONNECT_SECS, keep: int = ALL) -> None:
        loop = asyncio.get_running_loop()
        settings = ProxyConfig(
            connect_timeout_secs=connect_secs,
            first_byte_timeout_secs=math.inf,
            stall_timeout_secs=math.inf,
            pool_max_idle=keep,
            pool_idle_timeout_secs=math.inf,
        )
        self._batcher = WriteBatcher(loop)
        live = LiveConfig(Config(proxy=settings))
        self._pools = Pools(live, DeadlineSweeper(loop), self._batcher)  # no limit, so the sweeper needn't run

    def send(self, origin: Origin, request: bytes, listener: AnswerListener) -> ClientRequest:
        """Send the bytes of a request at once, if there is a connection; ``listener`` hears of its answer."""
        sent = ClientRequest(self._pools.of(origin), request, listener)
        self._batcher.flush()
        return sent

    def stream(
        self, origin: Origin, method: str, target: str, body: bytes = b"", *, headers: Mapping[str, str] = NO_HEADERS
    ) -> AnswerStream:
        """Return an answer to be read as it comes; ``async with`` sends the request."""
        request = request_bytes(method, target, origin.key.encode("ascii"), body, headers)
        return AnswerStream(self._pools.of(origin), request)

    async def fetch(
        self,
        origin: Origin,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] = NO_HEADERS,
        time_limit: float = 5.0,
    ) -> Answer:
        """Send a request and return its whole answer. Raises UpstreamError, also after ``time_limit`` seconds."""
        try:
            async with (
                asyncio.timeout(time_limit),
                self.stream(origin, method, target, body, headers=headers) as answer,
            ):
                return Answer(answer.status, answer.headers, await answer.read())
        except TimeoutError:
            detail = f"no answer to {method} {target} within {time_limit:g} s"
            raise UpstreamError("first_byte_timeout", detail, instance=f"http://{origin.key}", status=504) from None

    def close(self) -> None:
        """Keep no connection any more."""
        self._pools.close()

    def __repr__(self) -> str:
        return f"<HttpClient connections={len(self._pools)}>"
