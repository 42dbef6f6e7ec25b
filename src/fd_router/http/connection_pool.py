"""Kept-alive connections to the instances: one stack an instance, every step O(1)."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from typing import Protocol

from fd_router.config.host_names import is_name
from fd_router.config.live import LiveConfig
from fd_router.errors import Retry, UpstreamError
from fd_router.http.deadlines import DeadlineSweeper
from fd_router.http.heads import host_line
from fd_router.http.instance_access import InstanceAccess
from fd_router.http.resolver import Resolver
from fd_router.http.upstream_connection import UpstreamConnection
from fd_router.http.upstream_settings import UpstreamSettings
from fd_router.http.write_batcher import WriteBatcher

_NO_MORE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_EXHAUSTED = _NO_MORE | {errno.EADDRNOTAVAIL}
"""What the system says when this process, or the machine, has no more to give. The last may be for want of IPv6."""


class Place(Protocol):
    """Where a server listens."""

    @property
    def key(self) -> str:
        """``host:port``, brackets around an IPv6 host."""

    @property
    def host(self) -> str:
        """IP literal without brackets, or a name."""

    @property
    def port(self) -> int:
        """TCP port."""


class Address(Place, Protocol):
    """Where an instance listens, and how the router gets in there."""

    @property
    def access(self) -> InstanceAccess:
        """TLS and key towards it."""


Connected = Callable[[UpstreamConnection], None]
Failed = Callable[[UpstreamError], None]
Broken = Callable[[Exception], None]


class InstancePool:
    """The connections to one instance. The one used last is used first, so that surplus ones grow old and go."""

    def __init__(
        self, address: Place, upstream: UpstreamSettings, access: InstanceAccess, resolver: Resolver | None = None
    ) -> None:
        """``resolver``: who knows its addresses where it has a name; None: the system."""
        self._access = access
        self._resolver = resolver if is_name(address.host) else None
        self.message = access.message
        """Writes a client's request to the instance: see ``heads.request_message``."""
        self.url = f"{access.scheme}://{address.key}"
        self.authority = address.key.encode("ascii")
        self.host = host_line(self.authority)
        self._host, self._port = address.host, address.port
        self._upstream = upstream
        self._idle: dict[UpstreamConnection, None] = {}  # an ordered set: popitem() takes the newest
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[UpstreamConnection] = set()  # idle and busy
        self.awaited = 0  # requests that will be sent here, but not yet
        self.retired = False

    @property
    def own_headers(self) -> dict[str, str]:
        """What requests of the router's own say beside the usual."""
        told = {"via": self._upstream.via, "authorization": self._access.authorization}
        return {name: value for name, value in told.items() if value}

    def acquire(self) -> UpstreamConnection | None:
        """Take an idle connection, if there is a live one."""
        while self._idle:
            connection, _ = self._idle.popitem()
            transport = connection.transport
            if transport is not None and not transport.is_closing():
                return connection
        return None

    def connect(self, on_connected: Connected, on_failed: Failed, on_bug: Broken) -> asyncio.Task[None]:
        """Open a new connection; one of the callbacks is called, unless the returned task is cancelled.

        ``on_bug`` is called with what opening the connection, or one of the others, raised without being meant to.
        """
        task = asyncio.get_running_loop().create_task(self._try_to_connect(on_connected, on_failed, on_bug))
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._tasks.discard)
        return task

    async def _try_to_connect(self, on_connected: Connected, on_failed: Failed, on_bug: Broken) -> None:
        try:
            await self._connect(on_connected, on_failed)
        except Exception as error:  # noqa: BLE001  whoever waits for the connection must hear of it
            on_bug(error)

    async def _connect(self, on_connected: Connected, on_failed: Failed) -> None:
        limit = self._upstream.options.connect_timeout_secs
        try:
            async with asyncio.timeout(limit):
                connection = await self._open()
        except OSError as error:
            failure = self._failure(error, limit)
        else:
            on_connected(connection)
            return
        on_failed(failure)  # not above: whatever is raised there would hold the error, and so this frame

    def _failure(self, error: OSError, limit: float) -> UpstreamError:
        """Say why there is no connection. ``limit``: the seconds that it might have taken."""
        if isinstance(error, TimeoutError):
            return self._error("connect_timeout", f"no connection within {limit:g} s")
        if isinstance(error, ConnectionRefusedError):
            return self._error("refused", "connection refused")
        if error.errno in _EXHAUSTED:  # another instance would be of no help, and this one isn't to blame
            reason = os.strerror(error.errno)
            return self._error("exhausted", f"the router can't open a connection: {reason}", Retry.NEVER, 503)
        return self._error("unreachable", str(error))

    async def _open(self) -> UpstreamConnection:
        if self._resolver is None:
            return await self._open_to(self._host)
        *others, last = await self._resolver.addresses(self._host)
        share = self._upstream.options.connect_timeout_secs / (len(others) + 1)
        is_refused = False
        for address in others:
            try:
                async with asyncio.timeout(share):  # else one without an answer would keep the next from being tried
                    return await self._open_to(address)
            except OSError as error:
                if error.errno in _NO_MORE:
                    raise
                is_refused = is_refused or isinstance(error, ConnectionRefusedError)
        try:
            return await self._open_to(last)
        except OSError:
            if is_refused:  # which says more than that, perhaps, this machine has no IPv6
                raise ConnectionRefusedError from None
            raise

    async def _open_to(self, address: str) -> UpstreamConnection:
        options, loop = self._access.tls_options(self._host), asyncio.get_running_loop()
        connection = UpstreamConnection(self, self._upstream)
        try:
            await loop.create_connection(lambda: connection, address, self._port, **options)
        except BaseException:
            connection.abandon()
            raise
        return connection

    def _error(self, reason: str, detail: str, retry: Retry = Retry.ALWAYS, status: int | None = None) -> UpstreamError:
        return UpstreamError(reason, detail, instance=self.url, retry=retry, status=status)

    @property
    def open(self) -> int:
        """Connections, idle and busy."""
        return len(self._connections)

    def streaming(self) -> tuple[int, float, float]:
        """Return how many answers are under way whose body has begun, and when bytes of one of them came last.

        And the longest time from the first to the last bytes of one, in seconds.
        """
        under_way = [(at, each.began_at) for each in self._connections if (at := each.delivered_at)]
        if not under_way:
            return 0, 0.0, 0.0
        return len(under_way), max(under_way)[0], max(0.0, *(at - began for at, began in under_way))

    def on_opened(self, connection: UpstreamConnection) -> None:
        """Keep a new connection in sight."""
        self._connections.add(connection)

    def on_reusable(self, connection: UpstreamConnection) -> None:
        """Keep a connection whose answer is complete, or close it if there are enough."""
        upstream, idle = self._upstream, self._idle
        if self.retired or len(idle) >= upstream.options.pool_max_idle:
            connection.close()
            return
        connection.deadline = upstream.idle_due
        idle[connection] = None

    def on_closed(self, connection: UpstreamConnection) -> None:
        """Forget a connection that is gone."""
        self._connections.discard(connection)
        self._idle.pop(connection, None)

    @property
    def busy(self) -> int:
        """Connections that serve a request, or are being opened for one, or will be."""
        return len(self._connections) - len(self._idle) + len(self._tasks) + self.awaited

    def retire(self) -> None:
        """Close what is idle; busy connections close after their answer."""
        self.retired = True
        for connection in list(self._idle):
            connection.close()

    def __repr__(self) -> str:
        return f"<InstancePool {self.url} open={self.open} idle={len(self._idle)}>"


class Pools:
    """The pools of all instances, made when first needed."""

    def __init__(
        self,
        live: LiveConfig,
        sweeper: DeadlineSweeper,
        batcher: WriteBatcher,
        *,
        via: str = "",
        dropped: frozenset[bytes] = frozenset(),
        resolver: Resolver | None = None,
    ) -> None:
        """``via``, ``dropped``: see ``UpstreamSettings``. ``resolver``: of names of instances."""
        self._resolver = resolver
        self._upstream = UpstreamSettings(batcher, sweeper, live, via=via, dropped=dropped)
        self._pools: dict[str, InstancePool] = {}
        self._services: dict[str, InstancePool] = {}
        self._leaving: dict[str, list[InstancePool]] = {}  # retired, with requests under way

    def of(self, address: Address) -> InstancePool:
        """Return the pool of the instance at ``address``."""
        pool = self._pools.get(address.key)
        if pool is None:
            pool = self._pools[address.key] = InstancePool(address, self._upstream, address.access, self._resolver)
        return pool

    def service(self, address: Place, access: InstanceAccess) -> InstancePool:
        """Return the pool of a service, also of one at an instance's address."""
        pool = self._services.get(address.key)
        if pool is None:
            pool = self._services[address.key] = InstancePool(address, self._upstream, access)
        return pool

    def single_use(self, address: Address) -> InstancePool:
        """Return a pool that keeps nothing, for an address that is no instance (yet)."""
        pool = InstancePool(address, self._upstream, address.access, self._resolver)
        pool.retired = True
        return pool

    def retire(self, key: str) -> None:
        """The instance ``key`` was removed: keep no connection to it."""
        if pool := self._pools.pop(key, None):
            pool.retire()
            if pool.busy:
                self._leaving.setdefault(key, []).append(pool)

    def busy(self, key: str) -> int:
        """Return how many connections to the instance ``key`` serve a request or are being opened for one.

        Those count that it had before it was removed, if it was.
        """
        pool = self._pools.get(key)
        number = pool.busy if pool is not None else 0
        if (leaving := self._leaving.get(key)) is not None:
            leaving[:] = [each for each in leaving if each.busy]
            number += sum(each.busy for each in leaving)
            if not leaving:
                del self._leaving[key]
        return number

    def streaming(self, key: str) -> tuple[int, float, float]:
        """Do as ``InstancePool.streaming`` for the instance ``key``."""
        pool = self._pools.get(key)
        return pool.streaming() if pool is not None else (0, 0.0, 0.0)

    def delivered_at(self, key: str) -> float:
        """Return when the instance ``key`` last sent bytes of an answer that is under way, 0.0 if there is none."""
        return self.streaming(key)[1]

    def close(self) -> None:
        """Retire every pool."""
        for key in list(self._pools):
            self.retire(key)
        for pool in self._services.values():
            pool.retire()

    def __len__(self) -> int:
        """Open connections of all pools."""
        return sum(pool.open for pool in (*self._pools.values(), *self._services.values()))
