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
        """Give the gauges as Prometheus' client writes them, one at a time: each of a large fleet takes some ms."""
        labels = ("instance", "role")
        instances = tuple(self.watch())
        running = GaugeMetricFamily(
            "fd_router_instance_running_requests", "Requests sent to the instance and not yet finished.", labels=labels
        )
        for instance in instances:
            running.add_metric((instance.url, instance.registration.role), instance.own_running)
        yield running
        tokens = GaugeMetricFamily(
            "fd_router_instance_tokens",
            "Estimated prompt tokens at the instance whose prefill isn't done.",
            labels=labels,
        )
        for instance in instances:
            tokens.add_metric((instance.url, instance.registration.role), instance.own_tokens)
        yield tokens
        healthy = GaugeMetricFamily(
            "fd_router_instance_healthy", "1 while the instance may be chosen, else 0.", labels=labels
        )
        tally: Tally[tuple[str, str]] = Tally()
        for instance in instances:
            role, health = instance.registration.role, instance.health.value
            healthy.add_metric((instance.url, role), health == "healthy")
            tally[role, health] += 1
        yield healthy
        known = GaugeMetricFamily("fd_router_instances", "Known instances.", labels=("role", "health"))
        for pair, number in sorted(tally.items()):
            known.add_metric(pair, number)
        yield known
