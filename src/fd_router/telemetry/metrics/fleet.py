"""The fleet's state as gauges, read from the instances when Prometheus asks and at no other time."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

from prometheus_client.core import GaugeMetricFamily, Metric

from fd_router.telemetry.contracts import InstanceLoad

T = TypeVar("T")

PART: Final = 1000
"""Instances whose samples are made in one go."""


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
        """Give the gauges as Prometheus' client writes them, of a large fleet in parts: each takes a ms or two."""
        instances = tuple(self.watch())
        yield from _gauges(
            "fd_router_instance_running_requests",
            "Requests sent to the instance and not yet finished.",
            instances,
            lambda instance: instance.own_running,
        )
        yield from _gauges(
            "fd_router_instance_tokens",
            "Estimated prompt tokens at the instance whose prefill isn't done.",
            instances,
            lambda instance: instance.own_tokens,
        )
        yield from _gauges(
            "fd_router_instance_healthy",
            "1 while the instance may be chosen, else 0.",
            instances,
            lambda instance: instance.health.value == "healthy",
        )
        known = GaugeMetricFamily("fd_router_instances", "Known instances.", labels=("role", "health"))
        tally = Tally((instance.registration.role, instance.health.value) for instance in instances)
        for pair, number in sorted(tally.items()):
            known.add_metric(pair, number)
        yield known


def _gauges(
    name: str, text: str, instances: Sequence[InstanceLike], value_of: Callable[[InstanceLike], float]
) -> Iterator[Metric]:
    """Give a gauge of each instance."""
    for some in parts(instances):
        family = GaugeMetricFamily(name, text, labels=("instance", "role"))
        for instance in some:
            family.add_metric((instance.url, instance.registration.role), value_of(instance))
        yield family


def parts(of: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut a long sequence, one that is empty into one part: see ``Metrics.pages`` for families in parts."""
    for start in range(0, max(1, len(of)), PART):
        yield of[start : start + PART]
