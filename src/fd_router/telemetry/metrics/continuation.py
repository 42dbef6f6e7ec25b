"""Metrics of streams that went on at another instance, or couldn't."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from prometheus_client import CollectorRegistry

from fd_router.telemetry.metrics.instruments import CounterFamily, HistogramFamily

GAP_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds: from a prompt that is cached elsewhere to one that waits for room."""


class ContinuationMetrics:
    """The families."""

    def __init__(self) -> None:
        self._outcomes = CounterFamily(
            "fd_router_stream_continuations_total",
            "Streams whose instance broke off, by what became of them and why.",
            ("outcome", "reason"),
        )
        self._gaps = HistogramFamily(
            "fd_router_stream_continuation_gap_seconds",
            "From an instance's breaking off to the next instance's first event.",
            (),
            GAP_BOUNDS,
        )
        self._gap = self._gaps.child()

    def register(self, registry: CollectorRegistry) -> None:
        """Show all on ``registry``."""
        registry.register(self._outcomes)
        registry.register(self._gaps)

    def count(self, outcome: str, reason: str) -> None:
        """Count what became of a stream whose instance broke off.

        ``continued`` and ``finished`` with why it broke off, ``impossible`` and ``failed`` with why it didn't go on.
        """
        self._outcomes.child(outcome, reason).value += 1

    def gap(self, seconds: float) -> None:
        """Note how long a client waited in mid-stream."""
        self._gap.counts[bisect_left(GAP_BOUNDS, seconds)] += 1
        self._gap.sum += seconds
