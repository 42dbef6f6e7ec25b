"""The state of sources of instances as gauges, read when Prometheus asks and at no other time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


class HealthLike(Protocol):
    """Whether a source can be asked; see ``instances.sources.source_health``."""

    @property
    def is_up(self) -> bool:
        """Whether it could be asked the last time."""

    @property
    def failures(self) -> int:
        """How often it couldn't be."""


class SourceCollector:
    """``states`` gives each source's name, its health, and how many instances it has now."""

    def __init__(self, states: Callable[[], Iterable[tuple[str, HealthLike, int]]]) -> None:
        self._states = states

    def collect(self) -> Iterable[Metric]:
        """Give the families as Prometheus' client writes them."""
        labels = ("source",)
        up = GaugeMetricFamily("fd_router_source_up", "1 while the source can be asked, else 0.", labels=labels)
        members = GaugeMetricFamily("fd_router_source_instances", "Instances that the source names.", labels=labels)
        failures = CounterMetricFamily(
            "fd_router_source_failures", "Times that the source couldn't be asked.", labels=labels
        )
        for name, health, instances in self._states():
            up.add_metric((name,), float(health.is_up))
            members.add_metric((name,), instances)
            failures.add_metric((name,), health.failures)
        return (up, members, failures)
