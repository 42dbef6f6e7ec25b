"""The log's factory: from the options of section ``log`` to a log."""

from __future__ import annotations

from pathlib import Path

from fd_router.telemetry.logging.file_outlet import FileOutlet
from fd_router.telemetry.logging.json_log import JsonLog
from fd_router.telemetry.logging.rotation import Archive
from fd_router.telemetry.logging.sink import Sink
from fd_router.telemetry.logging.stream_outlet import StreamOutlet
from fd_router.telemetry.logging.text_log import RouterLog


def open_log(
    *,
    level: str = "info",
    output: str = "stdout",
    format: str = "text",  # noqa: A002 - the option's name
    path: str = "logs/router.log",
    max_age_days: int = 7,
    max_total_size_mb: int = 500,
    cleanup_interval_secs: float = 3600.0,
) -> RouterLog:
    """Make the log that the options ask for; ``output`` "stdout" sends errors to stderr, as FastDeploy's router does.

    Nothing is opened before the first line. A file that can't be written is no error: see ``Sink``.
    """
    kind = JsonLog if format == "json" else RouterLog
    if output == "file":
        archive = Archive(Path(path).absolute(), max_age_days, max_total_size_mb << 20)
        return kind(Sink(FileOutlet(archive, clean_up_secs=cleanup_interval_secs)), level=level)
    return kind(Sink(StreamOutlet(1, "stdout")), level=level, error_sink=Sink(StreamOutlet(2, "stderr")))
