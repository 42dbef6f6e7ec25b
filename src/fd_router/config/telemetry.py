"""The options of what becomes known of requests, beside the log."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fd_router.config.dotted_path import DOTTED_PATH_PATTERN
from fd_router.config.options import Option


class TelemetryConfig(msgspec.Struct, frozen=True):
    """Who is told of finished requests, beside metrics and log."""

    record_sinks: Annotated[
        str,
        Option(
            help="Classes of yours that are given the record of each request when it is over, separated by commas.",
            pattern=rf"({DOTTED_PATH_PATTERN}(\s*,\s*{DOTTED_PATH_PATTERN})*)?",
            form="my_module:MySink, or several separated by commas",
        ),
    ] = ""
    plugin_folder: str = ""  # no option: where the configuration file lies, and perhaps a sink

    def record_sink_paths(self) -> tuple[str, ...]:
        """Return the dotted paths of ``record_sinks``."""
        return tuple(path.strip() for path in self.record_sinks.split(",") if path.strip())
