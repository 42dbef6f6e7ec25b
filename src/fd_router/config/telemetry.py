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
    traces_endpoint: Annotated[
        str,
        Option(
            help="Where spans of requests are sent (OpenTelemetry, OTLP by HTTP). None: no request is traced. Example: "
            "http://collector:4318/v1/traces. Needs two more packages: pip install 'opentelemetry-sdk>=1.27' "
            "'opentelemetry-exporter-otlp-proto-http>=1.27'.",
            pattern=r"(https?://[!-~]+)?",
            form="a URL such as http://collector:4318/v1/traces",
        ),
    ] = ""
    traces_sample_percent: Annotated[
        float,
        Option(
            help="Share of the requests that are traced, of those whose clients don't say so by a traceparent header.",
            unit="%",
            minimum=0,
            maximum=100,
        ),
    ] = 1.0
    recording_folder: Annotated[
        str,
        Option(
            help="Where each process of the router records what its policies are given and do, as numbers, in a new "
            "file each time it starts: for simulate. None: nothing is recorded."
        ),
    ] = ""
    recording_max_mb: Annotated[
        int, Option(help="A recording that is as large as this ends.", unit="MB", minimum=1, maximum=1_000_000)
    ] = 1024
    plugin_folder: str = ""  # no option: where the configuration file lies, and perhaps a sink

    def record_sink_paths(self) -> tuple[str, ...]:
        """Return the dotted paths of ``record_sinks``."""
        return tuple(path.strip() for path in self.record_sinks.split(",") if path.strip())
