"""The server's context: what the connections of all clients share."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from types import MappingProxyType
from typing import Protocol

import msgspec

from fd_router.config.live import LiveConfig
from fd_router.config.sections import ProxyConfig
from fd_router.errors import ErrorBody, HttpError, openai_error
from fd_router.http.body_budget import BodyBudget, effective_budget
from fd_router.http.client_stream import ProxiedRequest, StartRequest
from fd_router.http.connection_limit import RESERVED_FOR_ADMIN, ConnectionLimiter, Evictable, effective_connection_limit
from fd_router.http.cors import Cors
from fd_router.http.deadlines import DeadlineSweeper
from fd_router.http.forwarding import Forwarding
from fd_router.http.handlers import find_route
from fd_router.http.messages import Request, Response, Routes, error_response
from fd_router.http.reader_settings import KeyCheck, ReaderSettings
from fd_router.http.write_batcher import WriteBatcher
from fd_router.telemetry.contracts import FinishRecord, Log

MAX_CONTROL_BODY = 1024 * 1024
"""Bytes of a body sent to an endpoint that the router itself answers."""


InferencePaths = Mapping[str, Mapping[str, StartRequest]]
"""path → method → how the answer of an instance begins. A path may have segments in braces, which any one fits."""


_LEADS_AWAY = re.compile(r"%(?:2e|2f|5c)|\\|/\.\.?(?:/|$)", re.IGNORECASE)
"""Dot segments and slashes, plain or encoded: a proxy before an engine may make another path of one with these."""


def _pattern_of(patterns: InferencePaths, path: str) -> str:
    """Return the pattern that ``path`` fits, "" for none. An id has nothing in it that leads to another path."""
    return "" if _LEADS_AWAY.search(path) is not None else find_route(patterns, path)


class InferencePathSet:
    """The paths that fit a table's keys."""

    __slots__ = ("_table", "patterns")

    def __init__(self, table: InferencePaths) -> None:
        self._table = table
        self.patterns: InferencePaths = {path: methods for path, methods in table.items() if "{" in path}

    def __contains__(self, path: object) -> bool:
        return path in self._table or (isinstance(path, str) and _pattern_of(self.patterns, path) != "")


class Connection(Evictable, Protocol):
    """A client's connection, as the server's state knows it."""

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


FEW_CONNECTIONS = 64
"""So many are looked at to see whether a server is idle."""


class ServerState:
    """What changes while the server runs: its connections, how many there may be, and whether it drains."""

    __slots__ = (
        "_memory", "_open_files", "_sweeper", "budget", "connections", "idle_due", "is_closing_idle", "is_draining",
        "limiter", "options",
    )  # fmt: skip

    def __init__(
        self, live: LiveConfig, sweeper: DeadlineSweeper, *, open_files: int = 1 << 20, memory: int = 1 << 40
    ) -> None:
        """``open_files``, ``memory``: as many, and as many bytes, as this process may have."""
        self.connections: set[Connection] = set()
        self.is_draining = False  # each answer is its connection's last
        self.is_closing_idle = False  # and a connection that brings no request soon is closed
        self._open_files, self._memory = open_files, memory
        self.budget = BodyBudget()
        self.limiter = ConnectionLimiter(0)
        self.options: ProxyConfig
        self.idle_due: float
        """The deadline of a connection that is idle from now on; see ``UpstreamSettings``."""
        self._sweeper = sweeper
        live.subscribe(ProxyConfig, self._on_options)
        sweeper.tell(self._on_tick)

    def _on_tick(self, now: float) -> None:
        self.idle_due = now + self.options.client_idle_timeout_secs

    def _on_options(self, options: ProxyConfig) -> None:
        self.options = options
        self.limiter.limit = effective_connection_limit(options.max_connections, self._open_files)
        self.budget.set_limit(effective_budget(options.body_budget_mb, self._memory))
        self._on_tick(self._sweeper.now)

    def admit(self, connection: Connection) -> bool:
        """Take a new connection in, in another one's place if there are too many.

        Returns False where there is no room: then it is for the router's own endpoints, and closed if there are
        too many of those as well.
        """
        limiter, number = self.limiter, len(self.connections)
        has_room = number < limiter.limit or limiter.make_room(self.connections)
        if not has_room and number >= limiter.limit + RESERVED_FOR_ADMIN:
            connection.abort()
        self.connections.add(connection)
        return has_room

    def proxied_requests(self) -> list[ProxiedRequest]:
        """Return the requests that are being answered by instances."""
        return [request for connection in self.connections if (request := connection.proxied) is not None]

    @property
    def is_idle(self) -> bool:
        """Whether instances answer no request, as a look at few connections shows. Of many nobody asks: False."""
        connections = self.connections
        return len(connections) <= FEW_CONNECTIONS and all(each.proxied is None for each in connections)

    def drain(self) -> None:
        """Make every answer from now on the last of its connection, and tell the client so."""
        self.is_draining = True
        for connection in list(self.connections):
            connection.on_drain()

    def close_idle(self) -> None:
        """Close what brings no request within ``LAST_CALL_SECONDS``; what is under way goes on."""
        self.is_closing_idle = True
        for connection in list(self.connections):
            connection.on_close_idle()

    def abort(self) -> None:
        """Close every connection at once, whatever is under way."""
        for connection in list(self.connections):
            connection.abort()

    def __repr__(self) -> str:
        state = "closing idle" if self.is_closing_idle else "draining" if self.is_draining else "serving"
        return f"<ServerState {len(self.connections)} connections, {state}>"


class ServerContext(msgspec.Struct, frozen=True, kw_only=True):
    """What all connections of one address share: endpoints, settings, clocks, and the server's state."""

    routes: Routes
    inference: InferencePaths
    patterns: InferencePaths  # those of them with segments in braces
    error_bodies: Mapping[str, ErrorBody]  # of inference paths whose errors have another shape than OpenAI's
    state: ServerState
    reader: ReaderSettings
    sweeper: DeadlineSweeper
    batcher: WriteBatcher
    clock: Callable[[], float]
    log: Log
    finish: FinishRecord

    def with_routes(self, routes: Routes) -> ServerContext:
        """Return a context with other endpoints of the router's own."""
        return msgspec.structs.replace(self, routes=routes)

    def for_admin_port(self) -> ServerContext:
        """Return a context for another address, with the same endpoints and no inference.

        Its connections are among this one's: they go by the same limits, and drain with them.
        """
        return msgspec.structs.replace(self, inference={}, patterns={})

    def inference_path(self, path: str) -> str:
        """Return the key of ``inference`` that ``path`` fits, "" for none."""
        return path if path in self.inference else _pattern_of(self.patterns, path)

    def match_pattern(self, path: str) -> tuple[Mapping[str, StartRequest] | None, str]:
        """Return the methods of the pattern that ``path`` fits, and the pattern; (None, "") for none."""
        pattern = _pattern_of(self.patterns, path)
        return self.patterns.get(pattern), pattern

    def error_response(self, request: Request | None, error: HttpError) -> Response:
        """Make the answer for ``error``, in the shape that clients of the request's path parse."""
        path = request.head.path if request is not None else ""
        return error_response(error, self.error_bodies.get(path, openai_error))

    def allowed(self, path: str) -> list[str]:
        """Return the methods that ``path`` knows, none for an unknown path."""
        methods = set(self.routes.get(find_route(self.routes, path), ()))
        if "GET" in methods:
            methods.add("HEAD")
        methods.update(self.inference.get(self.inference_path(path), ()))
        return sorted(methods)


def build_server_context(
    routes: Routes,
    inference: InferencePaths,
    live: LiveConfig,
    state: ServerState,
    *,
    sweeper: DeadlineSweeper,
    batcher: WriteBatcher,
    clock: Callable[[], float],
    make_id: Callable[[], str],
    log: Log,
    finish: FinishRecord,
    keep_authorization: bool = True,
    gate: KeyCheck | None = None,
    forwarding: Forwarding | None = None,
    cors: Cors | None = None,
    page_routes: Container[str] = (),
    error_bodies: Mapping[str, ErrorBody] = MappingProxyType({}),
) -> ServerContext:
    """Put a server's context together.

    ``page_routes``: those of ``routes`` that pages in a browser may use as they may inference. ``error_bodies``: of
    inference paths whose errors have another shape than OpenAI's. What else follows ``finish`` is
    the readers': see ``ReaderSettings``.
    """
    paths = InferencePathSet(inference)

    def body_limit(path: str) -> int:
        most = state.options.max_body_mb * 1024 * 1024 if path in paths else MAX_CONTROL_BODY
        return min(most, state.budget.largest)

    return ServerContext(
        routes=routes,
        inference=inference,
        patterns=paths.patterns,
        error_bodies=error_bodies,
        state=state,
        reader=ReaderSettings(
            live,
            body_limit,
            clock,
            make_id,
            budget=state.budget,
            keep_authorization=keep_authorization,
            gate=gate,
            forwarding=forwarding,
            cors=cors,
            cors_paths=InferencePathSet({**inference, **{route: {} for route in routes if route in page_routes}}),
        ),
        sweeper=sweeper,
        batcher=batcher,
        clock=clock,
        log=log,
        finish=finish,
    )
