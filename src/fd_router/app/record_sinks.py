"""Record sinks of third parties: the classes that the configuration names by dotted paths, and an object of each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from fd_router.config.dotted_path import load_class
from fd_router.config.telemetry import TelemetryConfig
from fd_router.errors import ConfigError
from fd_router.telemetry.record import RecordSink
from fd_router.telemetry.record_sinks import GuardedSink

if TYPE_CHECKING:  # check-config needs neither
    from fd_router.telemetry.logging.text_log import RouterLog
    from fd_router.telemetry.metrics.request import Metrics

OPTION: Final = "telemetry.record-sinks"


def open_record_sinks(options: TelemetryConfig, metrics: Metrics, log: RouterLog) -> tuple[RecordSink, ...]:
    """Make the sinks that the configuration names. Raises ConfigError for one that can't be loaded."""
    return tuple(
        GuardedSink(path, sink, count=partial(metrics.record_sink_failed, path), log=log.error, clock=time.monotonic)
        for path, sink in load_record_sinks(options).items()
    )


def load_record_sinks(options: TelemetryConfig) -> Mapping[str, RecordSink]:
    """Make each sink by its path, without a guard. Raises ConfigError with a line for each that can't be made."""
    sinks: dict[str, RecordSink] = {}
    problems: list[str] = []
    for path in options.record_sink_paths():
        try:
            sinks[path] = load_class(path, RecordSink, key=OPTION, folder=options.plugin_folder)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    return sinks
