"""The ``[stats]`` line, again and again."""

from __future__ import annotations

from fd_router.config.live import LiveConfig
from fd_router.instances.registration_keys import ROLES
from fd_router.instances.registry import Registry
from fd_router.telemetry.debug_lines import healthy_line
from fd_router.telemetry.stats import StatsLine
from fd_router.telemetry.telemetry import Telemetry


async def log_stats(live: LiveConfig, registry: Registry, telemetry: Telemetry) -> None:
    """Write the line until cancelled."""
    line = StatsLine(registry.all, telemetry.metrics.cache_counts)
    while True:
        await live.sleep(lambda config: config.scheduler.stats_interval_secs)
        telemetry.log.info(line.next())
        if telemetry.log.debug_on:
            telemetry.log.debug(healthy_line({role: [x.url for x in registry.available(role)] for role in ROLES}))
