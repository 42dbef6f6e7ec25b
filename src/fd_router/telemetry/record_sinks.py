"""Record sinks of third parties: named by a dotted path in the configuration, and guarded."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from fd_router.config.dotted_path import load_class, place_of
from fd_router.config.telemetry import TelemetryConfig
from fd_router.telemetry.logging.text_log import RouterLog
from fd_router.telemetry.metrics.request import Metrics
from fd_router.telemetry.record import RecordSink, RequestRecord

OPTION: Final = "telemetry.record-sinks"

SILENT_SECONDS: Final = 60.0
"""A sink that fails is logged so often at most."""


def open_record_sinks(options: TelemetryConfig, metrics: Metrics, log: RouterLog) -> tuple[RecordSink, ...]:
    """Make the sinks that the configuration names. Raises ConfigError for one that can't be loaded."""
    sinks: list[RecordSink] = []
    for path in options.record_sink_paths():
        sink: RecordSink = load_class(path, RecordSink, key=OPTION, folder=options.plugin_folder)
        count = partial(metrics.record_sink_failed, path)
        sinks.append(GuardedSink(path, sink, count=count, log=log.error, clock=time.monotonic))
    return tuple(sinks)


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
