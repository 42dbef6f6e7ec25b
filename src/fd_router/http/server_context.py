"""What the connections of all clients share: endpoints, limits, clocks, and the router's being about to stop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Protocol

from fd_router.config.loading import ProxyConfig
from fd_router.http.client_stream import ProxiedRequest, StartRequest
from fd_router.http.connection_limit import ConnectionLimiter, Evictable, effective_connection_limit
from fd_router.http.deadlines import DeadlineSweeper
from fd_router.http.handlers import find_route
from fd_router.http.messages import Routes
from fd_router.http.request_reader import ReaderSettings
from fd_router.http.write_batcher import WriteBatcher
from fd_router.telemetry.telemetry import Telemetry

MAX_CONTROL_BODY = 1024 * 1024
"""Bytes of a body sent to an endpoint that the router itself answers."""


class Connection(Evictable, Protocol):
    """A client's connection, as the site knows it."""

    @property
    def proxied(self) -> ProxiedRequest | None:
        """The request that is being answered by an instance, if one is."""

    @property
    def is_idle(self) -> bool:
        """Whether no request is being received or answered, or waits in line."""

    def on_drain(self) -> None:
        """The answer under way, if there is one, is the last."""

    def on_close_idle(self) -> None:
        """Close soon, unless a request is under way or comes."""

    def abort(self) -> None:
        """Close at once, whatever is under way."""


class ServerContext:
    """What all connections share: routes, limits, clocks, telemetry, and the set of the connections."""

    def __init__(
        self,
        routes: Routes,
        inference: Mapping[str, Mapping[str, StartRequest]],
        settings: ProxyConfig,
        sweeper: DeadlineSweeper,
        batcher: WriteBatcher,
        telemetry: Telemetry,
        clock: Callable[[], float],
        make_id: Callable[[], str],
        *,
        keep_authorization: bool = True,
        open_files: int = 1 << 20,
    ) -> None:
        self.routes = routes
        self.open_files = open_files  # as many as this process may have
        self.inference = inference  # path → method → who has it answered by an instance
        self.settings = settings
        self.sweeper = sweeper
        self.batcher = batcher
        self.telemetry = telemetry
        self.clock = clock
        self.reader = ReaderSettings(
            settings.max_head_kb * 1024, self.body_limit, clock, make_id, keep_authorization=keep_authorization
        )
        self.crowd = ConnectionLimiter(effective_connection_limit(settings.max_connections, open_files))
        self.connections: set[Connection] = set()
        self.is_draining = False  # each answer is its connection's last
        self.is_closing_idle = False  # and a connection that brings no request soon is closed
        self._beside: list[ServerContext] = []

    def for_admin_port(self, routes: Routes) -> ServerContext:
        """Make a site for another address, with other endpoints and no inference.

        Its connections are among this one's; it goes by the same limits, and drains with this one.
        """
        other = copy.copy(self)
        other.routes, other.inference = routes, {}
        self._beside.append(other)
        return other

    def body_limit(self, path: str) -> int:
        """Return the most bytes that a body sent to ``path`` may have."""
        return self.settings.max_body_mb * 1024 * 1024 if path in self.inference else MAX_CONTROL_BODY

    def allowed(self, path: str) -> list[str]:
        """Return the methods that ``path`` knows, none for an unknown path."""
        methods = set(self.routes.get(find_route(self.routes, path), ()))
        if "GET" in methods:
            methods.add("HEAD")
        methods.update(self.inference.get(path, ()))
        return sorted(methods)

    def use(self, settings: ProxyConfig) -> None:
        """Go by other limits from now on, with connections that are open too."""
        self.crowd.most = effective_connection_limit(settings.max_connections, self.open_files)
        self.reader.max_head = settings.max_head_kb * 1024
        for site in (self, *self._beside):
            site.settings = settings

    def proxied_requests(self) -> list[ProxiedRequest]:
        """Return the requests that are being answered by instances."""
        return [request for connection in self.connections if (request := connection.proxied) is not None]

    def drain(self) -> None:
        """Make every answer from now on the last of its connection, and tell the client so."""
        for site in (self, *self._beside):
            site.is_draining = True
        for connection in list(self.connections):
            connection.on_drain()

    def close_idle(self) -> None:
        """Close what brings no request within ``LAST_CALL_SECONDS``; what is under way goes on."""
        for site in (self, *self._beside):
            site.is_closing_idle = True
        for connection in list(self.connections):
            connection.on_close_idle()
