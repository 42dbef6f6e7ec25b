"""Metrics by model: shown where the fleet tells several models apart. Only names that it serves are label values."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Mapping
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric

from fd_router.telemetry.metrics.instruments import CounterFamily, HistogramFamily
from fd_router.telemetry.record import RequestRecord

Availability = Mapping[tuple[str, str], tuple[int, int]]
"""(model, role) → instances that serve it, and how many of them take new requests."""


class ModelTotals(NamedTuple):
    """What requests for one model came to: how many, of which failed, and of which began, after so many seconds."""

    requests: int
    failed: int
    begun: int
    first_seconds: float


class ModelMetrics:
    """The families; a request counts under the model that served it, whatever its client calls that. A collector."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._requests = CounterFamily(
            "fd_router_model_requests_total", "Inference requests, by the model that served them.",
            ("model", "status_code"),
        )  # fmt: skip
        self._durations = HistogramFamily(
            "fd_router_model_request_duration_seconds", "Whole inference requests, by model.", ("model",), bounds
        )
        self._first_bytes = HistogramFamily(
            "fd_router_model_time_to_first_token_seconds",
            "From the head's first byte to the first byte of the answer, by model.", ("model",), bounds,
        )  # fmt: skip
        self._refusals = CounterFamily("fd_router_model_not_found_total", "Requests for a model that nobody serves.")
        self.watch: Callable[[], Availability] = dict
        """Gives who serves which model, at each scrape."""

    def finished(self, record: RequestRecord) -> None:
        """Count a request that is over."""
        model = record.model
        self._requests.child(model, str(record.status)).value += 1
        seconds = max(0.0, record.finished_at - record.started)
        duration = self._durations.child(model)
        duration.counts[bisect_left(self._bounds, seconds)] += 1
        duration.sum += seconds
        if record.first_byte_at:
            seconds = max(0.0, record.first_byte_at - record.started)
            first = self._first_bytes.child(model)
            first.counts[bisect_left(self._bounds, seconds)] += 1
            first.sum += seconds

    def refused(self) -> None:
        """Count a request for a model that nobody serves; its name is the client's to invent, and no label."""
        self._refusals.child().value += 1

    def keep(self, models: Container[str]) -> None:
        """Drop the series of other models: adapters come and go."""
        for family in (self._requests, self._durations, self._first_bytes):
            family.forget(lambda values: values[0] not in models)

    def totals(self) -> dict[str, ModelTotals]:
        """Return what each model's requests came to since the start."""
        totals: dict[str, ModelTotals] = {}
        for (model, status), counter in self._requests.children():
            first = self._first_bytes.child(model)
            total = totals.setdefault(model, ModelTotals(0, 0, sum(first.counts), first.sum))
            failed = counter.value if int(status) >= 500 else 0
            totals[model] = total._replace(requests=total.requests + counter.value, failed=total.failed + failed)
        return totals

    def collect(self) -> Iterable[Metric]:
        """Give the families that have anything to show, as Prometheus' client writes them."""
        for family in (self._requests, self._durations, self._first_bytes, self._refusals):
            if family.has_children:
                yield from family.collect()
        found = self.watch()
        if found:
            labels = ("model", "role")
            known = GaugeMetricFamily("fd_router_model_instances", "Instances that serve the model.", labels=labels)
            available = GaugeMetricFamily(
                "fd_router_model_instances_available", "Those of them that take new requests.", labels=labels
            )
            for pair, (number, ready) in sorted(found.items()):
                known.add_metric(pair, number)
                available.add_metric(pair, ready)
            yield known
            yield available
