"""How good the predictions of ``ttft_aware`` are: of first tokens, and of what instances have cached."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from prometheus_client.core import Metric

from fd_router.telemetry.metrics.instruments import CounterFamily, HistogramFamily


class PredictionMetrics:
    """The families; ``of`` gives what a policy tells of its role (``scheduling.contract.Predictions``)."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.error = HistogramFamily(
            "fd_router_ttft_prediction_error_seconds",
            "How much later, or earlier, than predicted first tokens came.",
            ("role", "direction"),
            bounds,
        )
        self.predicted = CounterFamily(
            "fd_router_cached_tokens_predicted_total",
            "Prompt tokens thought to be cached, of answers that tell.",
            ("role",),
        )
        self.told = CounterFamily(
            "fd_router_cached_tokens_told_total", "Prompt tokens that were cached, as engines told.", ("role",)
        )
        self.wrong = CounterFamily(
            "fd_router_cached_tokens_error_total", "Prompt tokens by which predictions differed from that.", ("role",)
        )
        self.held = HistogramFamily(
            "fd_router_held_seconds",
            "Time that prompts waited in the router, of those that did.",
            ("role", "priority"),
            bounds,
        )
        self.deadlines = CounterFamily(
            "fd_router_ttft_deadlines_total",
            "Requests with a deadline for their first token that had one, by whether it came in time.",
            ("role", "result"),
        )

    def of(self, role: str) -> RolePredictions:
        """Return whom to tell of the predictions for ``role``."""
        return RolePredictions(self, role)

    def collect(self) -> Iterable[Metric]:
        """Give all families."""
        for family in (self.error, self.predicted, self.told, self.wrong, self.held, self.deadlines):
            yield from family.collect()


class RolePredictions:
    """Counts the predictions for one role."""

    __slots__ = ("_metrics", "_role")

    def __init__(self, metrics: PredictionMetrics, role: str) -> None:
        self._metrics = metrics
        self._role = role

    def first_token(self, predicted: float, observed: float) -> None:
        """Note a first token that came after ``observed`` seconds."""
        metrics, error = self._metrics, observed - predicted
        histogram = metrics.error.child(self._role, "late" if error >= 0 else "early")
        histogram.counts[bisect_left(metrics.bounds, abs(error))] += 1
        histogram.sum += abs(error)

    def held(self, priority: str, seconds: float) -> None:
        """Note a prompt that has waited."""
        metrics = self._metrics
        histogram = metrics.held.child(self._role, priority)
        histogram.counts[bisect_left(metrics.bounds, seconds)] += 1
        histogram.sum += seconds

    def deadline(self, *, is_met: bool) -> None:
        """Note whether a deadline was met."""
        self._metrics.deadlines.child(self._role, "met" if is_met else "missed").value += 1

    def cached_tokens(self, predicted: int, told: int) -> None:
        """Note how many tokens of a prompt an engine told to be cached."""
        metrics, role = self._metrics, self._role
        metrics.predicted.child(role).value += predicted
        metrics.told.child(role).value += told
        metrics.wrong.child(role).value += abs(predicted - told)

    def __repr__(self) -> str:
        return f"<RolePredictions {self._role}>"
