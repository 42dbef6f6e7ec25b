"""The fleet's state as gauges, read from the instances when Prometheus asks and at no other time."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from prometheus_client.core import GaugeMetricFamily, Metric

from fd_router.telemetry.contracts import InstanceLoad


class RegistrationLike(Protocol):
    """What an instance registered, as far as metrics need it."""

    @property
    def role(self) -> str:
        """``mixed``, ``prefill`` or ``decode``."""


class InstanceLike(InstanceLoad, Protocol):
    """An instance as metrics and the stats line see it."""

    @property
    def own_running(self) -> int:
        """This router's requests there: those of all routers together would be counted once by each."""

    @property
    def own_tokens(self) -> int:
        """The tokens of those whose prefill isn't known to be done."""

    @property
    def health(self) -> Any:
        """An enum whose ``value`` is ``healthy``, ``suspect`` or ``unhealthy``."""

    @property
    def registration(self) -> RegistrationLike:
        """What it registered."""


class FleetCollector:
    """``watch`` gives the instances of now; until it is set there are none."""

    __slots__ = ("watch",)

    def __init__(self) -> None:
        self.watch: Callable[[], Iterable[InstanceLike]] = tuple

    def collect(self) -> Iterable[Metric]:
        """Give the gauges as Prometheus' client writes them."""
        labels = ("instance", "role")
        running = GaugeMetricFamily(
            "fd_router_instance_running_requests", "Requests sent to the instance and not yet finished.", labels=labels
        )
        tokens = GaugeMetricFamily(
            "fd_router_instance_tokens",
            "Estimated prompt tokens at the instance whose prefill isn't done.",
            labels=labels,
        )
        healthy = GaugeMetricFamily(
            "fd_router_instance_healthy", "1 while the instance may be chosen, else 0.", labels=labels
        )
        instances = GaugeMetricFamily("fd_router_instances", "Known instances.", labels=("role", "health"))
        tally: Tally[tuple[str, str]] = Tally()
        for instance in self.watch():
            role, health = instance.registration.role, instance.health.value
            values = (instance.url, role)
            running.add_metric(values, instance.own_running)
            tokens.add_metric(values, instance.own_tokens)
            healthy.add_metric(values, health == "healthy")
            tally[role, health] += 1
        for pair, number in sorted(tally.items()):
            instances.add_metric(pair, number)
        return (running, tokens, healthy, instances)
