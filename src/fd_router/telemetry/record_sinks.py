"""Record sinks of third parties: named by a dotted path in the configuration, and guarded."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from fd_router.config.dotted_path import place_of
from fd_router.config.telemetry import TelemetryConfig
from fd_router.telemetry.logging.text_log import RouterLog
from fd_router.telemetry.metrics.request import Metrics
from fd_router.telemetry.record import RecordSink, RequestRecord
from fd_router.telemetry.record_sink_loading import load_record_sinks

SILENT_SECONDS: Final = 60.0
"""A sink that fails is logged so often at most."""


def open_record_sinks(options: TelemetryConfig, metrics: Metrics, log: RouterLog) -> tuple[RecordSink, ...]:
    """Make the sinks that the configuration names. Raises ConfigError for one that can't be loaded."""
    return tuple(
        GuardedSink(path, sink, count=partial(metrics.record_sink_failed, path), log=log.error, clock=time.monotonic)
        for path, sink in load_record_sinks(options).items()
    )


class GuardedSink:
    """Passes records on to ``sink``, called ``name`` in the log, and survives what it does.

    Each failure is counted by ``count``, and told by ``log`` once a minute at most.
    """

    def __init__(
        self,
        name: str,
        sink: RecordSink,
        *,
        count: Callable[[], None],
        log: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._name = name
        self._sink = sink
        self._count = count
        self._log = log
        self._clock = clock
        self._silent_until = -math.inf
        self._unsaid = 0

    def finished(self, record: RequestRecord) -> None:
        """Pass the record on."""
        try:
            self._sink.finished(record)
        except BaseException as error:  # noqa: BLE001  a library may call sys.exit()
            self._on_failure(error)

    def _on_failure(self, error: BaseException) -> None:
        self._count()
        self._unsaid += 1
        now = self._clock()
        if now < self._silent_until:
            return
        times = f" ({self._unsaid} times since the last such line)" if self._unsaid > 1 else ""
        self._log(f"The record sink {self._name} failed: {place_of(error)}{times}")
        self._silent_until, self._unsaid = now + SILENT_SECONDS, 0

    def __repr__(self) -> str:
        return f"<GuardedSink {self._name}>"
