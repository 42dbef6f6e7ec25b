"""Telemetry: the one place that a finished request is handed to."""

from __future__ import annotations

from collections.abc import Sequence

from fd_router.telemetry.logging.text_log import RouterLog
from fd_router.telemetry.metrics.request import Metrics
from fd_router.telemetry.record import RecordSink, RequestRecord


class Telemetry:
    """The log and the metrics of one router, and whatever else takes the records of its requests."""

    __slots__ = ("_finished", "log", "metrics")

    def __init__(self, log: RouterLog, metrics: Metrics, sinks: Sequence[RecordSink] = ()) -> None:
        """``sinks``: those of third parties must be guarded (``record_sinks``)."""
        self.log = log
        self.metrics = metrics
        self._finished = tuple(sink.finished for sink in sinks)
        metrics.watch_lines_lost(lambda: log.lines_lost)

    def add(self, sink: RecordSink) -> None:
        """Give records to ``sink`` too, until it is removed."""
        self._finished = (*self._finished, sink.finished)

    def remove(self, sink: RecordSink) -> None:
        """Give ``sink`` no more."""
        self._finished = tuple(finished for finished in self._finished if finished != sink.finished)

    def finish(self, record: RequestRecord) -> None:
        """Give the record to every sink; to be called once, when the request is over and ``finished_at`` is set."""
        self.metrics.finished(record)
        self.log.finished(record)
        for finished in self._finished:
            finished(record)
