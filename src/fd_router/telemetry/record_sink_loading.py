"""Loading record sinks: the classes that the configuration names by dotted paths, and an object of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fd_router.config.dotted_path import load_class
from fd_router.config.telemetry import TelemetryConfig
from fd_router.errors import ConfigError
from fd_router.telemetry.record import RecordSink

OPTION: Final = "telemetry.record-sinks"


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
