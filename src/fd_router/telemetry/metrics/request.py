"""The router's metrics: FastDeploy's names, which dashboards already use, and its own under ``fd_router_``."""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from typing import Protocol

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fd_router import __version__
from fd_router.telemetry.metrics.continuation import ContinuationMetrics
from fd_router.telemetry.metrics.fleet import FleetCollector, InstanceLike
from fd_router.telemetry.metrics.instruments import Counter, CounterFamily, Histogram, HistogramFamily
from fd_router.telemetry.metrics.kv_events import KvEventMetrics
from fd_router.telemetry.metrics.models import ModelMetrics
from fd_router.telemetry.metrics.prediction import PredictionMetrics
from fd_router.telemetry.metrics.scheduling import SchedulingMetrics
from fd_router.telemetry.record import RequestRecord
from fd_router.telemetry.sanitize import METHODS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SECONDS_BOUNDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0,
    1200.0, 1800.0,
)  # fmt: skip
"""From a cached answer of a ms to a generation of half an hour; one search serves two histograms."""


MAX_PAIRS = 1024
"""Pairs of a prefill and a decode instance that are told apart."""

ANY_OTHER = "other"
"""The decode instance of further ones."""


TallyKey = tuple[str, str, int, bool, str, str, str]
"""(method, endpoint, status, streamed, mixed, prefill, decode), the last three URLs of instances or ""."""

SAMPLES_A_PAGE = 500
"""Of a family that are written in one go."""


class Tallied(Protocol):
    """What requests with the same labels came to: counts by ``SECONDS_BOUNDS``, and sums."""

    counts: list[int]
    first_counts: list[int]  # of times to the first byte
    seconds: float
    first_seconds: float
    bytes: int
    gone: int
    broken: int


class _Tally:
    """What requests with the same labels came to since it was last settled: all that the hot path changes."""

    __slots__ = (
        "_broken", "_counters", "_durations", "_firsts", "_gone", "_size", "broken", "bytes", "counts", "first_counts",
        "first_seconds", "gone", "seconds",
    )  # fmt: skip

    def __init__(
        self,
        size: Counter,
        gone: Counter,
        broken: Counter,
        counters: Sequence[Counter],
        durations: Sequence[Histogram],
        firsts: Sequence[Histogram],
    ) -> None:
        """Settle with these: bytes, clients gone, answers broken, requests, whole times, times to the first byte."""
        self._size, self._gone, self._broken = size, gone, broken
        self._counters, self._durations, self._firsts = counters, durations, firsts
        self._begin()

    def _begin(self) -> None:
        self.counts = [0] * (len(SECONDS_BOUNDS) + 1)
        self.first_counts = [0] * (len(SECONDS_BOUNDS) + 1)
        self.seconds = self.first_seconds = 0.0
        self.bytes = self.gone = self.broken = 0

    def settle(self) -> None:
        """Add it all to what Prometheus is shown, and begin anew."""
        number = sum(self.counts)
        if not number:
            return
        self._size.value += self.bytes
        self._gone.value += self.gone
        self._broken.value += self.broken
        for counter in self._counters:
            counter.value += number
        for histogram in self._durations:
            histogram.add(self.counts, self.seconds)
        for histogram in self._firsts:
            histogram.add(self.first_counts, self.first_seconds)
        self._begin()


class Metrics:
    """Counts what happens, on a registry of its own. Only to be used from the loop's thread."""

    def __init__(self) -> None:
        worker_labels = ("mixed_worker", "prefill_worker", "decode_worker", "status_code")
        self._http = CounterFamily(
            "http_requests_total", "HTTP requests answered.", ("method", "endpoint", "status_code")
        )
        self._duration = HistogramFamily(
            "http_request_duration_seconds", "From the head's first byte to the answer's last.",
            ("method", "endpoint"), SECONDS_BOUNDS,
        )  # fmt: skip
        self._inference = CounterFamily("inference_requests_total", "Inference requests, by instance.", worker_labels)
        self._cache_hits = CounterFamily("router_cache_hit_total", "Sessions sent to the instance they were at before.")
        self._cache_requests = CounterFamily(
            "router_cache_request_total", "Requests with a session, cache-aware policy."
        )
        self._total = HistogramFamily(
            "fd_router_request_duration_seconds", "Whole inference requests.", ("stream",), SECONDS_BOUNDS
        )
        self._first_byte = HistogramFamily(
            "fd_router_time_to_first_token_seconds", "From the head's first byte to the first byte of the answer.",
            ("stream",), SECONDS_BOUNDS,
        )  # fmt: skip
        self._bytes = CounterFamily("fd_router_response_bytes_total", "Bytes of answers.", ("endpoint",))
        self._gone = CounterFamily(
            "fd_router_client_disconnects_total", "Clients that left before their answer was complete.", ("endpoint",)
        )
        self._broken = CounterFamily(
            "fd_router_broken_answers_total", "Answers that began well, and broke off or said that they failed.",
            ("endpoint",),
        )  # fmt: skip
        self._upstream_errors = CounterFamily(
            "fd_router_upstream_errors_total", "Attempts that an instance failed.", ("instance", "reason")
        )
        self._retries = CounterFamily("fd_router_retries_total", "Attempts after the first.", ("reason",))
        self._leg_failures = CounterFamily(
            "fd_router_leg_failures_total", "Legs of disaggregated requests that failed.", ("role", "reason")
        )
        self._leg_first_byte = HistogramFamily(
            "fd_router_leg_time_to_first_token_seconds", "From sending to a leg's first byte (prefill: its work done).",
            ("role",), SECONDS_BOUNDS,
        )  # fmt: skip
        self._decode_alone = CounterFamily(
            "fd_router_decode_alone_total", "Attempts of disaggregated requests that decode served alone.", ("reason",)
        )
        self._sink_failures = CounterFamily(
            "fd_router_record_sink_errors_total", "Records that a sink of one's own failed to take.", ("sink",)
        )
        for stream in ("false", "true"):  # shown from the beginning
            self._total.child(stream)
            self._first_byte.child(stream)
        self._legs = {role: self._leg_first_byte.child(role) for role in ("prefill", "decode")}
        self._hits = self._cache_hits.child()
        self._lookups = self._cache_requests.child()
        self.predictions = PredictionMetrics(SECONDS_BOUNDS)
        self.scheduling = SchedulingMetrics()
        self.kv_events = KvEventMetrics()
        self.models = ModelMetrics(SECONDS_BOUNDS)
        self.continuations = ContinuationMetrics()
        self._router = _RouterCollector()
        self._fleet = FleetCollector()
        self._pairs: set[tuple[str, str]] = set()  # that have series of their own
        self._tallies: dict[TallyKey, _Tally] = {}
        self.observer: Callable[[TallyKey, Tallied], None] | None = None
        """Is shown what each tally came to, before that is settled: all requests pass by it, once."""
        self._registry = self._make_registry()

    def _make_registry(self) -> CollectorRegistry:
        registry = CollectorRegistry(auto_describe=False)
        for family in (
            self._http, self._duration, self._inference, self._cache_hits, self._cache_requests, self._total,
            self._first_byte, self._bytes, self._gone, self._broken, self._upstream_errors, self._retries,
            self._leg_failures, self._leg_first_byte, self._decode_alone, self._sink_failures, self._fleet,
            self._router, self.predictions, self.models, self.kv_events,
        ):  # fmt: skip
            registry.register(family)
        self.scheduling.register(registry)
        self.continuations.register(registry)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        return registry

    # -- the hot path

    def finished(self, record: RequestRecord) -> None:
        """Count one request that is over, however it ended: as a ``RecordSink``."""
        try:
            tally = self._tallies[
                record.method,
                record.endpoint,
                record.status,
                record.stream,
                record.mixed,
                record.prefill,
                record.decode,
            ]
        except KeyError:
            tally = self._find(record)
        started = record.started
        seconds = record.finished_at - started
        if seconds < 0.0:  # noqa: PLR1730 - max() would cost as much as the search below
            seconds = 0.0
        place = bisect_left(SECONDS_BOUNDS, seconds)
        tally.counts[place] += 1
        tally.seconds += seconds
        tally.bytes += record.bytes_out
        if first_byte_at := record.first_byte_at:
            first_seconds = first_byte_at - started
            if not place or first_seconds <= SECONDS_BOUNDS[place - 1]:  # else it is in the same bucket
                place = bisect_left(SECONDS_BOUNDS, first_seconds)
            tally.first_counts[place] += 1
            tally.first_seconds += first_seconds
        if (outcome := record.outcome) != "completed":
            if outcome == "client_gone":
                tally.gone += 1
            elif record.status < 400:
                tally.broken += 1
        if record.model:
            self.models.finished(record)

    def _find(self, record: RequestRecord) -> _Tally:
        # A method is the client's to invent: it must not become a label, nor a key that is kept.
        method = record.method if record.method in METHODS else "OTHER"
        endpoint, workers = record.endpoint, self._workers(record)
        key = (method, endpoint, record.status, record.stream, *workers)
        found = self._tallies.get(key)
        if found is None:
            counters = [self._http.child(method, endpoint, str(record.status))]
            durations, firsts = [self._duration.child(method, endpoint)], []
            if record.inference:
                stream = "true" if record.stream else "false"
                counters.append(self._inference.child(*workers, str(record.status)))
                durations.append(self._total.child(stream))
                firsts.append(self._first_byte.child(stream))
            size, gone, broken = (each.child(endpoint) for each in (self._bytes, self._gone, self._broken))
            found = self._tallies[key] = _Tally(size, gone, broken, counters, durations, firsts)
        return found

    def _workers(self, record: RequestRecord) -> tuple[str, str, str]:
        """Return the instances by which a request is counted; not the decode instance of a pair beyond ``MAX_PAIRS``.

        Each prefill instance may be paired with each decode instance: hundreds of both would be series without number.
        """
        prefill, decode = record.prefill, record.decode
        if prefill and decode and (prefill, decode) not in self._pairs:
            if len(self._pairs) >= MAX_PAIRS:
                return record.mixed, prefill, ANY_OTHER
            self._pairs.add((prefill, decode))
        return record.mixed, prefill, decode

    def upstream_failed(self, url: str, reason: str) -> None:
        """Count an attempt that the instance ``url`` failed; ``reason`` is one of ``UpstreamError.REASONS``."""
        self._upstream_errors.child(url, reason).value += 1

    def retried(self, reason: str) -> None:
        """Count another attempt, made because of ``reason``."""
        self._retries.child(reason).value += 1

    def leg_failed(self, role: str, reason: str) -> None:
        """Count a leg that failed; ``role`` is prefill or decode."""
        self._leg_failures.child(role, reason).value += 1

    def decode_alone(self, reason: str) -> None:
        """Count an attempt at a decode instance alone, and why it was."""
        self._decode_alone.child(reason).value += 1

    def record_sink_failed(self, name: str) -> None:
        """Count a record that the sink ``name`` failed to take."""
        self._sink_failures.child(name).value += 1

    def leg_began(self, role: str, seconds: float) -> None:
        """Note how long the ``role`` leg of a pair took to its first byte."""
        histogram = self._legs[role]
        histogram.counts[bisect_left(SECONDS_BOUNDS, seconds)] += 1
        histogram.sum += seconds

    def cache_request(self, hit: bool) -> None:
        """Count a request with a session under a cache-aware policy; ``hit``: it went where the session was before."""
        self._lookups.value += 1
        self._hits.value += hit

    def cache_counts(self) -> tuple[int, int]:
        """Return (hits, requests) counted by ``cache_request`` since the start."""
        return self._hits.value, self._lookups.value

    # -- the rest

    def watch_instances(self, instances: Callable[[], Iterable[InstanceLike]]) -> None:
        """Show the instances that ``instances()`` gives at each scrape."""
        self._fleet.watch = instances

    def watch_lines_lost(self, lines_lost: Callable[[], int]) -> None:
        """Show what ``lines_lost()`` gives at each scrape."""
        self._router.lines_lost = lines_lost

    def show(self, collector: Collector) -> None:
        """Show what ``collector`` gives at each scrape, too."""
        self._registry.register(collector)

    def show_all(self, register: Callable[[CollectorRegistry], None]) -> None:
        """Have ``register`` put families of its own among those that are shown."""
        register(self._registry)

    def forget_instance(self, url: str) -> None:
        """Drop the series of an instance that was removed. A request that still runs there would begin them anew."""
        self._pairs = {pair for pair in self._pairs if url not in pair}
        for key in [key for key in self._tallies if url in key[4:]]:
            self._settle(key, self._tallies.pop(key))  # they go on counting in what has no instance's name
        self._inference.forget(lambda values: url in values[:3])
        self._upstream_errors.forget(lambda values: values[0] == url)

    def render(self) -> bytes:
        """Write all metrics as text in Prometheus' format, of type ``CONTENT_TYPE``."""
        return b"".join(self.pages())

    def settle(self) -> None:
        """Add what was tallied to what Prometheus is shown."""
        for key, tally in self._tallies.items():
            self._settle(key, tally)

    def _settle(self, key: TallyKey, tally: _Tally) -> None:
        if self.observer is not None:
            self.observer(key, tally)
        tally.settle()

    def pages(self) -> Iterator[bytes]:
        """Write the same, a family at a time, a large one in several pages.

        A collector may give a family in parts, one behind the other: they make one.
        """
        self.settle()
        before = ""
        for family in self._registry.collect():
            yield from _pages_of(family, has_begun=family.name == before)
            before = family.name


def _pages_of(family: Metric, *, has_begun: bool = False) -> Iterator[bytes]:
    """Write one family: 10,000 keys' samples in one go would hold the loop for 80 ms."""
    samples = family.samples
    if any(sample.name.endswith("_created") for sample in samples) or not (has_begun or len(samples) > SAMPLES_A_PAGE):
        yield generate_latest(_Page(family))  # times of creation are written as a family of their own, behind all
        return
    for start in range(0, len(samples), SAMPLES_A_PAGE):
        part = copy(family)
        part.samples = samples[start : start + SAMPLES_A_PAGE]
        text = generate_latest(_Page(part))
        yield text.split(b"\n", 2)[2] if start or has_begun else text  # help and type stand there once


class _Page:
    """One family, as a registry."""

    __slots__ = ("_family",)

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        """Give the family."""
        return (self._family,)


class _RouterCollector:
    """What is read, not counted: the version, and the lines that the log lost."""

    def __init__(self) -> None:
        self.lines_lost: Callable[[], int] = int

    def collect(self) -> Iterable[Metric]:
        build = GaugeMetricFamily("fd_router_build_info", "The router's version.", labels=("version", "python"))
        build.add_metric((__version__, platform.python_version()), 1)
        lost = "Log lines dropped because they could not be written."
        return (build, CounterMetricFamily("fd_router_log_lines_dropped_total", lost, value=self.lines_lost()))
