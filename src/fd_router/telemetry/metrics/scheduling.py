"""Metrics of the choices: how long they take, what they meet in caches, and how large the prefix index is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from fd_router.telemetry.contracts import InstanceLoad
from fd_router.telemetry.metrics.instruments import Counter, CounterFamily, Histogram, HistogramFamily

DECISION_BOUNDS: Final = (
    1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 1e-1, 1.0,
)  # fmt: skip
"""Seconds: from a look at two counts to a policy of somebody's own that does too much."""

HIT_BOUNDS: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 1.0)
"""Nothing, everything, and tenths in between; above 0.99 only the end of a prompt is new."""

_BUCKETS: Final = bytes(
    next(n for n, bound in enumerate(HIT_BOUNDS) if percent / 100 <= bound) for percent in range(101)
)


class IndexLike(Protocol):
    """The prefix index, as far as metrics need it."""

    @property
    def blocks(self) -> int:
        """Blocks in the tree."""

    @property
    def bytes_estimate(self) -> int:
        """What it takes in memory, about."""

    @property
    def forgotten(self) -> Mapping[str, int]:
        """Why → blocks that instances were no longer taken to hold."""


class SchedulingMetrics:
    """The families; ``decisions(role)`` and ``hits(role)`` give one role's histogram, to be kept."""

    def __init__(self) -> None:
        self._decisions = HistogramFamily(
            "fd_router_decision_duration_seconds",
            "Time a policy took to choose, of every eighth choice.",
            ("role",),
            DECISION_BOUNDS,
        )
        self._hits = HistogramFamily(
            "fd_router_prefix_hit_ratio", "Share of a prompt that its instance was sent before.", ("role",), HIT_BOUNDS
        )
        self._errors = CounterFamily(
            "fd_router_policy_errors_total", "Choices of a policy of one's own that failed.", ("policy", "kind")
        )
        self._shadow_decisions = CounterFamily(
            "fd_router_shadow_decisions_total",
            "Decisions that a shadow policy made too: the same one, or another.",
            ("role", "policy", "decision"),
        )
        self._shadow_running = CounterFamily(
            "fd_router_shadow_running_requests_total",
            "Requests that ran where a request went, and where the shadow policy would have sent it, in sum.",
            ("role", "policy", "choice"),
        )
        self._shadow_seconds = CounterFamily(
            "fd_router_shadow_seconds_total", "Time that a shadow policy took.", ("role", "policy")
        )
        self._index = _IndexCollector()

    def register(self, registry: CollectorRegistry) -> None:
        """Show all on ``registry``."""
        for family in (
            self._decisions, self._hits, self._errors, self._index, self._shadow_decisions, self._shadow_running,
            self._shadow_seconds,
        ):  # fmt: skip
            registry.register(family)

    def decisions(self, role: str) -> Histogram:
        """Return the histogram of decision times, in seconds."""
        return self._decisions.child(role)

    def hits(self, role: str) -> Histogram:
        """Return the histogram of hit ratios, for ``observe_hit``."""
        return self._hits.child(role)

    def policy_failed(self, policy: str, kind: str) -> None:
        """Count what the plug-in ``policy`` did wrong: a hook ``raised``, or it made a ``wrong_choice``."""
        self._errors.child(policy, kind).value += 1

    def shadow(self, role: str, policy: str) -> ShadowCounts:
        """Return what counts the decisions of the shadow ``policy`` of a role."""
        decisions, running = self._shadow_decisions, self._shadow_running
        return ShadowCounts(
            decisions.child(role, policy, "same"),
            decisions.child(role, policy, "other"),
            running.child(role, policy, "in_force"),
            running.child(role, policy, "shadow"),
            self._shadow_seconds.child(role, policy),
        )

    def watch_index(self, index: IndexLike) -> None:
        """Show the size of ``index`` at each scrape."""
        self._index.index = index


class ShadowCounts:
    """Counts where a shadow policy decides otherwise; see ``scheduling.shadow.ShadowTally``."""

    __slots__ = ("_chosen", "_other", "_same", "_seconds", "_wished")

    def __init__(self, same: Counter, other: Counter, chosen: Counter, wished: Counter, seconds: Counter) -> None:
        self._same, self._other, self._chosen, self._wished, self._seconds = same, other, chosen, wished, seconds

    def decided(self, chosen: InstanceLoad, wished: InstanceLoad) -> None:
        """Count a decision."""
        (self._same if chosen is wished else self._other).value += 1
        self._chosen.value += chosen.running
        self._wished.value += wished.running

    def took(self, seconds: float) -> None:
        """Show what all of it has taken."""
        self._seconds.value = seconds  # type: ignore[assignment]  # the only counter of what isn't whole


def observe_hit(histogram: Histogram, percent: int) -> None:
    """Note that ``percent`` (0 to 100) of a prompt were known where it went."""
    percent = min(percent, 100)  # a learnt ratio of tokens may be a little off
    histogram.counts[_BUCKETS[percent]] += 1
    histogram.sum += percent / 100


class _IndexCollector:
    """Nothing as long as there is no index."""

    def __init__(self) -> None:
        self.index: IndexLike | None = None

    def collect(self) -> Iterable[Metric]:
        index = self.index
        if index is None:
            return
        yield GaugeMetricFamily("fd_router_prefix_index_blocks", "Blocks in the prefix index.", value=index.blocks)
        yield GaugeMetricFamily(
            "fd_router_prefix_index_bytes", "Memory of the prefix index, estimated.", value=index.bytes_estimate
        )
        forgotten = CounterMetricFamily(
            "fd_router_prefix_index_forgotten_blocks_total",
            "Blocks that instances are no longer taken to hold.",
            labels=("reason",),
        )
        for reason, blocks in index.forgotten.items():
            forgotten.add_metric((reason,), blocks)
        yield forgotten
