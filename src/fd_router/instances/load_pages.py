"""Load pages: where an instance tells its load, on a port of its own perhaps, or a path that newer versions have."""

from __future__ import annotations

import msgspec

from fd_router.config.host_names import authority
from fd_router.http.connection_pool import Pools
from fd_router.http.fetch import fetch
from fd_router.http.instance_access import InstanceAccess
from fd_router.instances.instance import Instance

METRICS = "/metrics"

NOT_FOUND = 404


class MetricsAddress(msgspec.Struct, frozen=True):
    """Where an instance's metrics are when they have a port of their own."""

    key: str
    host: str
    port: int
    access: InstanceAccess


def metrics_address(instance: Instance) -> MetricsAddress:
    """Return where the metrics of ``instance`` are."""
    return other_address(instance, instance.registration.metrics_port, instance.access)


def other_address(instance: Instance, port: int, access: InstanceAccess) -> MetricsAddress:
    """Return the address of another server on the host of ``instance``."""
    host = instance.host
    return MetricsAddress(authority(host, port), host, port, access)


class LoadPages:
    """Gets the pages that dialects read loads from."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._lacking: dict[str, str] = {}  # key → the path that its instance doesn't have

    async def get(self, instance: Instance, time_limit: float) -> tuple[int, bytes]:
        """Return status and body of the page with the load of ``instance``. Raises UpstreamError."""
        dialect, key = instance.dialect, instance.key
        if dialect.load_is_metrics:
            return await self.metrics(instance, time_limit, dialect.load_path)
        if self._lacking.get(key) != dialect.load_path:
            status, page = await fetch(self._pools.of(instance), "GET", dialect.load_path, time_limit=time_limit)
            if status != NOT_FOUND:
                return status, page
            self._lacking[key] = dialect.load_path
        return await self.metrics(instance, time_limit)

    async def metrics(self, instance: Instance, time_limit: float, path: str = METRICS) -> tuple[int, bytes]:
        """Return status and body of a page where the metrics are. Raises UpstreamError."""
        return await fetch(self._pools.of(metrics_address(instance)), "GET", path, time_limit=time_limit)

    def forget(self, instance: Instance) -> None:
        """The instance is no member any more."""
        self._lacking.pop(instance.key, None)
        self._pools.retire(metrics_address(instance).key)

    def __repr__(self) -> str:
        return f"<LoadPages {len(self._lacking)} lack their own path>"
