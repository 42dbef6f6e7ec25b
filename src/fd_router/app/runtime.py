"""The runtime: what every part of a router is built on."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from fd_router.app.record_sinks import open_record_sinks
from fd_router.config.live import LiveConfig
from fd_router.config.log import LogConfig
from fd_router.config.sections import Config
from fd_router.http.deadlines import DeadlineSweeper
from fd_router.http.write_batcher import WriteBatcher
from fd_router.telemetry.logging.text_log import RouterLog
from fd_router.telemetry.metrics.request import Metrics
from fd_router.telemetry.telemetry import Telemetry

Run = Callable[[], Coroutine[Any, Any, None]]
"""Begins what runs as long as the router does."""


class Runtime(msgspec.Struct, frozen=True):
    """The loop, its clock and sweeper, a source of chance, the options in force, the log and the metrics."""

    loop: asyncio.AbstractEventLoop
    live: LiveConfig
    telemetry: Telemetry
    sweeper: DeadlineSweeper
    batcher: WriteBatcher
    clock: Callable[[], float]
    rng: random.Random

    @property
    def log(self) -> RouterLog:
        """The router's log."""
        return self.telemetry.log


def build_runtime(config: Config, log: RouterLog) -> Runtime:
    """Build what the parts share, on the loop that is running. Raises ConfigError for a sink that can't be had."""
    loop, metrics = asyncio.get_running_loop(), Metrics()
    live = LiveConfig(config)
    live.subscribe(LogConfig, lambda options: log.set_level(options.level))
    return Runtime(
        loop=loop,
        live=live,
        telemetry=Telemetry(log, metrics, open_record_sinks(config.telemetry, metrics, log)),
        sweeper=DeadlineSweeper(loop),
        batcher=WriteBatcher(loop),
        clock=time.monotonic,
        rng=random.Random(),
    )
