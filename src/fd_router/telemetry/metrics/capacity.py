"""What instances were kept from, and requests from them: circuits and panic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from types import MappingProxyType

from prometheus_client.core import GaugeMetricFamily, Metric

from fd_router.telemetry.metrics.fleet import InstanceLike, parts
from fd_router.telemetry.metrics.instruments import CounterFamily

CIRCUITS: Mapping[str, int] = MappingProxyType({"closed": 0, "half-open": 1, "open": 2})
"""What the gauge shows: anything but 0 is worth a look."""


class ProtectionCounters:
    """Counts openings, panics and repairs."""

    def __init__(self) -> None:
        self._openings = CounterFamily(
            "fd_router_circuit_openings_total", "Times that an instance's circuit opened.", ("instance",)
        )
        self._panics = CounterFamily(
            "fd_router_panics_total", "Circuits kept closed because too few instances would be left.", ("role",)
        )
        self._repairs = CounterFamily(
            "fd_router_ledger_repairs_total", "Requests counted at an instance that were there no more.", ("instance",)
        )

    def opened(self, url: str) -> None:
        """Count the opening of the circuit of the instance at ``url``."""
        self._openings.child(url).value += 1

    def panicked(self, role: str) -> None:
        """Count a circuit that stayed closed, or was closed again, lest too few of ``role`` were left."""
        self._panics.child(role).value += 1

    def repaired(self, url: str, requests: int) -> None:
        """Count requests that were taken out of an instance's count."""
        self._repairs.child(url).value += requests

    def forget(self, url: str) -> None:
        """Drop the series of an instance that was removed."""
        self._openings.forget(lambda values: values[0] == url)
        self._repairs.forget(lambda values: values[0] == url)

    def collect(self) -> Iterable[Metric]:
        """Give the families as Prometheus' client writes them."""
        yield from self._openings.collect()
        yield from self._panics.collect()
        yield from self._repairs.collect()


class ProtectionMetrics:
    """The counters, and what is read when it is asked for: circuits and gaps. A collector of Prometheus' client."""

    def __init__(
        self,
        counters: ProtectionCounters,
        circuits: Callable[[], Iterable[tuple[InstanceLike, Enum]]],
        gaps: Callable[[], Iterable[tuple[InstanceLike, int]]],
    ) -> None:
        self._counters = counters
        self._circuits = circuits
        self._gaps = gaps

    def collect(self) -> Iterable[Metric]:
        """Give all families as Prometheus' client writes them."""
        yield from self._counters.collect()
        yield self._collect_gaps()
        for some in parts(tuple(self._circuits())):
            circuits = GaugeMetricFamily(
                "fd_router_instance_circuit",
                "The instance's circuit: 0 closed, 1 half-open (one request on trial), 2 open (no requests).",
                labels=("instance", "role"),
            )
            for instance, circuit in some:
                circuits.add_metric((instance.url, instance.registration.role), CIRCUITS[circuit.value])
            yield circuits

    def _collect_gaps(self) -> Metric:
        gaps = GaugeMetricFamily(
            "fd_router_ledger_difference",
            "Requests at the instance by this router's count, less those by its engine's own word.",
            labels=("instance", "role"),
        )
        for instance, gap in self._gaps():
            gaps.add_metric((instance.url, instance.registration.role), gap)
        return gaps
