"""What was let in, what was not and why, what waits and for how long."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from fd_router.telemetry.metrics.fleet import parts
from fd_router.telemetry.metrics.instruments import CounterFamily, HistogramFamily

WAIT_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
"""Seconds: a request that waits longer than a minute or two has mostly been given up."""


class Holder(Protocol):
    """An API key and what was done with it."""

    running: int
    requests: int
    refused: int
    tokens: int

    @property
    def key(self) -> Named:
        """The key's entry."""


class Budget(Protocol):
    """How many bytes of requests are held, and may be."""

    held: int
    limit: int


class Named(Protocol):
    """Something with a name."""

    @property
    def name(self) -> str:
        """The name."""


class AdmissionCounters:
    """Counts refusals and waits."""

    def __init__(self) -> None:
        self._refusals = CounterFamily(
            "fd_router_rejected_requests_total", "Inference requests that were not let in.", ("reason",)
        )
        self._waits = HistogramFamily(
            "fd_router_queue_wait_seconds", "How long requests waited for room at an instance.", (), WAIT_BOUNDS
        )
        self._wait = self._waits.child()

    def refused(self, reason: str) -> None:
        """Count a request that wasn't let in."""
        self._refusals.child(reason).value += 1

    def waited(self, seconds: float) -> None:
        """Count a request that waited, and had its turn."""
        self._wait.counts[bisect_left(WAIT_BOUNDS, seconds)] += 1
        self._wait.sum += seconds

    def collect(self) -> Iterable[Metric]:
        """Give the families as Prometheus' client writes them."""
        yield from self._refusals.collect()
        yield from self._waits.collect()


class AdmissionMetrics:
    """The counters, and what is read when it is asked for: the queue's lengths and the keys' use. A collector."""

    def __init__(
        self,
        counters: AdmissionCounters,
        lengths: Callable[[], Mapping[str, int]],
        holders: Callable[[], Iterable[Holder]],
        budget: Budget,
    ) -> None:
        self._counters = counters
        self._lengths = lengths
        self._holders = holders
        self._budget = budget

    def collect(self) -> Iterable[Metric]:
        """Give all families as Prometheus' client writes them."""
        yield from self._counters.collect()
        queued = GaugeMetricFamily("fd_router_queued_requests", "Requests that wait for room.", labels=("priority",))
        for priority, length in self._lengths().items():
            queued.add_metric((priority,), length)
        yield queued
        budget = self._budget
        yield GaugeMetricFamily("fd_router_held_body_bytes", "Bytes of requests that are held.", budget.held)
        yield GaugeMetricFamily("fd_router_body_budget_bytes", "Bytes of requests that may be held.", budget.limit)
        holders = tuple(self._holders())
        if holders:
            yield from _of_keys(holders)


def _of_keys(holders: Sequence[Holder]) -> Iterable[Metric]:
    """Give a family at a time, and of each so many keys: 10,000 in one go would hold the loop."""
    told = (
        (CounterMetricFamily, "fd_router_key_requests", "Requests let in, by API key.", "requests"),
        (
            CounterMetricFamily,
            "fd_router_key_rejected_requests",
            "Requests beyond what their API key allows.",
            "refused",
        ),
        (
            CounterMetricFamily,
            "fd_router_key_tokens",
            "Tokens counted against an API key: estimates of prompts; where it has a limit of tokens, by usage.",
            "tokens",
        ),
        (GaugeMetricFamily, "fd_router_key_running_requests", "Requests under way, by API key.", "running"),
    )
    for kind, name, about, what in told:
        value = attrgetter(what)
        for some in parts(holders):
            family = kind(name, about, labels=("key",))
            for holder in some:
                family.add_metric((holder.key.name,), value(holder))
            yield family
