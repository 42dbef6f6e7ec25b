"""Metrics of the state bus: whether it works, who is there, how old what they tell is, and what it costs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from fd_router.telemetry.metrics.instruments import CounterFamily, HistogramFamily

LAG_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class StateMetrics:
    """Counts what a ``state.sync.Sync`` does; see ``state.counters``."""

    def __init__(self) -> None:
        self._lag = HistogramFamily(
            "fd_router_state_lag_seconds",
            "From sending a frame to receiving it back: how old what others tell is, when it comes.",
            (),
            LAG_BOUNDS,
        )
        self._unreadable = CounterFamily(
            "fd_router_state_unreadable_total", "Frames, or parts of them, that were passed over.", ("why",)
        )
        self._reserved = CounterFamily(
            "fd_router_state_reservations_total", "Requests whose key limits all routers share, by who let them in.",
            ("by",),
        )  # fmt: skip
        self._frames = {"sent": 0, "received": 0}
        self._bytes = {"sent": 0, "received": 0}
        self._failures = 0
        self._lagged = self._lag.child()
        self.is_up: Callable[[], bool] = lambda: False
        self.peers: Callable[[], int] = lambda: 1

    def register(self, registry: CollectorRegistry) -> None:
        """Show them."""
        for family in (self._lag, self._unreadable, self._reserved, self):
            registry.register(family)

    def sent(self, size: int) -> None:
        """See ``SyncCounters``."""
        self._frames["sent"] += 1
        self._bytes["sent"] += size

    def received(self, size: int) -> None:
        """See ``SyncCounters``."""
        self._frames["received"] += 1
        self._bytes["received"] += size

    def unreadable(self, why: str) -> None:
        """See ``SyncCounters``."""
        self._unreadable.child(why).value += 1

    def lagged(self, seconds: float) -> None:
        """See ``SyncCounters``."""
        self._lagged.counts[bisect_left(LAG_BOUNDS, seconds)] += 1
        self._lagged.sum += seconds

    def failed(self) -> None:
        """See ``SyncCounters``."""
        self._failures += 1

    def reserved(self, by: str, requests: int) -> None:
        """So many requests were let in, or not, ``by`` the set's limit or by this router's fair share of it."""
        self._reserved.child(by).value += requests

    def collect(self) -> Iterable[Metric]:
        """Give what is read at each scrape."""
        return tuple(self._families())

    def _families(self) -> Iterator[Metric]:
        yield _gauge("fd_router_state_up", "1 while the state bus works, else 0.", self.is_up())
        yield _gauge("fd_router_state_peers", "Processes of the set that are alive, this one included.", self.peers())
        frames = CounterMetricFamily("fd_router_state_frames", "Frames on the state bus.", labels=("way",))
        sizes = CounterMetricFamily("fd_router_state_bytes", "Their bytes.", labels=("way",))
        for way in ("sent", "received"):
            frames.add_metric((way,), self._frames[way])
            sizes.add_metric((way,), self._bytes[way])
        yield frames
        yield sizes
        failures = CounterMetricFamily("fd_router_state_failures", "Tries to reach the state bus that failed.")
        failures.add_metric((), self._failures)
        yield failures


def _gauge(name: str, text: str, value: float) -> Metric:
    gauge = GaugeMetricFamily(name, text)
    gauge.add_metric((), float(value))
    return gauge
