"""Probe connections: which connection a probe of an instance takes."""

from __future__ import annotations

import msgspec

from fd_router.errors import LOOP_DETECTED, UpstreamError
from fd_router.http.connection_pool import InstancePool, Pools
from fd_router.http.fetch import fetch
from fd_router.http.instance_access import InstanceAccess
from fd_router.instances.instance import Health
from fd_router.instances.registration import Registration
from fd_router.instances.registry import Registry


class Address(msgspec.Struct, frozen=True):
    """An address that isn't an instance's (yet)."""

    key: str
    host: str
    port: int
    access: InstanceAccess


class ProbeConnections:
    """Probes healthy members over a kept connection, and the others over one of its own.

    Kept connections may live on while an instance refuses new ones.
    """

    def __init__(self, registry: Registry, pools: Pools) -> None:
        self._registry = registry
        self._pools = pools

    async def get_status(self, registration: Registration, path: str, time_limit: float) -> int:
        """Return the status of a GET. Raises UpstreamError."""
        pool = self._pool(registration)
        status, _ = await fetch(pool, "GET", path, time_limit=time_limit)
        if status == LOOP_DETECTED:
            raise UpstreamError("unreachable", "that is this router itself, or leads back to it", instance=pool.url)
        return status

    async def get_page(self, registration: Registration, path: str, time_limit: float) -> tuple[int, bytes]:
        """Return status and body of a GET. Raises UpstreamError."""
        return await fetch(self._pool(registration), "GET", path, time_limit=time_limit)

    def _pool(self, registration: Registration) -> InstancePool:
        known = self._registry.get(registration.key)
        if known is not None and known.health is Health.HEALTHY and known.url == registration.url:
            return self._pools.of(known)
        access = self._registry.access.of(registration)
        return self._pools.single_use(Address(registration.key, registration.host_ip, registration.port, access))
