"""Traffic as the dashboard shows it: what the metrics counted between two frames, by instance, as rates and means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from fd_router.telemetry.metrics.models import ModelTotals
from fd_router.telemetry.metrics.request import SECONDS_BOUNDS, Tallied, TallyKey
from fd_router.telemetry.record import RequestRecord

BYTES_PER_EVENT: Final = 250
"""Of a stream, about: each token has an event of its own. Time per token is an estimate for that reason."""

NO_FAULTS: Final = frozenset({"busy", "given back"})
"""How attempts end that instances had no room for: no failures of theirs."""

_BUCKETS: Final = len(SECONDS_BOUNDS) + 1


class Sums:
    """What requests came to: of one instance, or of all."""

    __slots__ = ("begun", "failed", "first_seconds", "requests")

    def __init__(self) -> None:
        self.requests = self.failed = self.begun = 0
        self.first_seconds = 0.0

    def add(self, requests: int, begun: int, first_seconds: float, *, has_failed: bool) -> None:
        """Add so many requests, of which ``begun`` had a first byte, after so many seconds together."""
        self.requests += requests
        self.begun += begun
        self.first_seconds += first_seconds
        if has_failed:
            self.failed += requests

    @property
    def mean_first_ms(self) -> float | None:
        """The mean time to the first byte, None where nothing began."""
        return round(self.first_seconds / self.begun * 1e3, 2) if self.begun else None


class Interval:
    """What was counted since the last frame. ``observe`` is a ``Metrics.observer``, by ``finished`` it is a sink."""

    def __init__(self, inference: frozenset[str]) -> None:
        """``inference``: the endpoints whose requests are shown."""
        self._inference = inference
        self.begin({})

    def begin(self, models: Mapping[str, ModelTotals]) -> None:
        """Begin the next one; ``models``: what has been counted by model since the router's start."""
        self._models = models
        self.all = Sums()
        self.by_url: dict[str, Sums] = {}
        self._first_counts = [0] * _BUCKETS
        self._gone = 0
        self._stream_seconds = 0.0
        self._stream_bytes = 0

    def observe(self, key: TallyKey, tally: Tallied) -> None:
        """Take in what requests with the same labels came to."""
        _, endpoint, status, is_stream, *urls = key
        number = sum(tally.counts)
        if not number or endpoint not in self._inference:
            return
        begun = sum(tally.first_counts)
        for sums in (self.all, *(self._of(url) for url in urls if url)):
            sums.add(number, begun, tally.first_seconds, has_failed=status >= 500)
        self.all.failed += tally.broken  # as an attempt it is its instance's already
        self._gone += tally.gone
        self._first_counts = [own + more for own, more in zip(self._first_counts, tally.first_counts, strict=True)]
        if is_stream and begun == number:
            self._stream_seconds += tally.seconds - tally.first_seconds
            self._stream_bytes += tally.bytes

    def finished(self, record: RequestRecord) -> None:
        """Count as an instance's failures the attempts that it failed, though another instance answered the request."""
        attempts = record.failed_attempts
        if not attempts or record.endpoint not in self._inference:
            return
        if record.status >= 500 and not record.attempt_started:
            attempts = attempts[:-1]  # the last one counts as the request does
        for one in attempts:
            for url in one.instances if one.outcome not in NO_FAULTS else ():
                if url:
                    self._of(url).failed += 1

    def _of(self, url: str) -> Sums:
        return self.by_url.get(url) or self.by_url.setdefault(url, Sums())

    def as_json(self, seconds: float, models: Mapping[str, ModelTotals]) -> dict[str, Any]:
        """Describe all of it; ``seconds``: how long it took; ``models``: what has been counted by model by now."""
        return {
            "rate": round(self.all.requests / seconds, 1),
            "failed": round(self.all.failed / seconds, 2),
            "left": round(self._gone / seconds, 2),
            "ttft_ms": self.all.mean_first_ms,
            "ttft_p95_ms": quantile_ms(self._first_counts, 0.95),
            "ms_per_token": self._ms_per_token(),
            "models": self._by_model(seconds, models),
        }

    def _ms_per_token(self) -> float | None:
        tokens = self._stream_bytes / BYTES_PER_EVENT
        return round(self._stream_seconds / tokens * 1e3, 2) if tokens >= 1 else None

    def _by_model(self, seconds: float, models: Mapping[str, ModelTotals]) -> list[dict[str, Any]]:
        rows = []
        for model, total in sorted(models.items()):
            before = self._models.get(model, ModelTotals(0, 0, 0, 0.0))
            begun = total.begun - before.begun
            first = (total.first_seconds - before.first_seconds) / begun * 1e3 if begun > 0 else None
            rows.append(
                {
                    "model": model,
                    "rate": round((total.requests - before.requests) / seconds, 1),
                    "failed": round((total.failed - before.failed) / seconds, 2),
                    "ttft_ms": None if first is None else round(first, 2),
                }
            )
        return rows


def quantile_ms(counts: Sequence[int], share: float) -> float | None:
    """Estimate the time that ``share`` of the values stay below, from counts by ``SECONDS_BOUNDS``; None without any.

    As Prometheus does: values are taken to lie evenly within a bucket, those above all bounds at the last one.
    """
    wanted = sum(counts) * share
    if not wanted:
        return None
    below = 0
    for count, (low, high) in zip(counts, pairwise((0.0, *SECONDS_BOUNDS)), strict=False):
        if below + count >= wanted:
            return round((low + (high - low) * (wanted - below) / count) * 1e3, 2)
        below += count
    return SECONDS_BOUNDS[-1] * 1e3
