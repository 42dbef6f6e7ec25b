"""Probe connections: which connection a probe of an instance takes."""

from __future__ import annotations

import msgspec

from fd_router.errors import LOOP_DETECTED, UpstreamError
from fd_router.http.connection_pool import InstancePool, Pools
from fd_router.http.fetch import fetch
from fd_router.instances.instance import Health
from fd_router.instances.registry import Registry


class Address(msgspec.Struct, frozen=True):
    """An address that isn't an instance's (yet)."""

    key: str
    host: str
    port: int


class ProbeConnections:
    """Probes healthy members over a kept connection, and the others over one of its own.

    Kept connections may live on while an instance refuses new ones.
    """

    def __init__(self, registry: Registry, pools: Pools) -> None:
        self._registry = registry
        self._pools = pools

    async def get_status(self, host: str, port: int, path: str, time_limit: float) -> int:
        """Return the status of a GET. Raises UpstreamError."""
        pool = self._pool(host, port)
        status, _ = await fetch(pool, "GET", path, time_limit=time_limit)
        if status == LOOP_DETECTED:
            raise UpstreamError("unreachable", "that is this router itself, or leads back to it", instance=pool.url)
        return status

    def _pool(self, host: str, port: int) -> InstancePool:
        key = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        known = self._registry.get(key)
        if known is not None and known.health is Health.HEALTHY:
            return self._pools.of(known)
        return self._pools.single_use(Address(key, host, port))
