"""The one place that a finished request is handed to."""

from __future__ import annotations

from collections.abc import Sequence

from fd_router.telemetry.logging.text_log import RouterLog
from fd_router.telemetry.metrics.request import Metrics
from fd_router.telemetry.record import RequestRecord


class Telemetry:
    """The log and the metrics of one router."""

    __slots__ = ("log", "metrics")

    def __init__(self, log: RouterLog, metrics: Metrics) -> None:
        self.log = log
        self.metrics = metrics
        metrics.watch_lines_lost(lambda: log.lines_lost)

    def finish(self, record: RequestRecord, before: Sequence[str] = ()) -> None:
        """Count the request and log its line; to be called once, when it is over and ``finished_at`` is set.

        ``before`` are messages about it that are still to be logged, at info.
        """
        self.metrics.request_finished(record)
        self.log.request(record, before)
