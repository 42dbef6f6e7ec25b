"""The ``[stats]`` line, which says every few seconds how busy the fleet is, and how often sessions met their cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter, itemgetter

from fd_router.telemetry.metrics.fleet import InstanceLike


class StatsLine:
    """Makes ``[stats] total_running=…, workers: […], cache_hit_rate=…%``; hits and total are those since the last line.

    ``instances`` gives the fleet of now, ``cache_counts`` (hits, requests) since the start.
    """

    __slots__ = ("_cache_counts", "_hits", "_instances", "_total")

    def __init__(
        self, instances: Callable[[], Iterable[InstanceLike]], cache_counts: Callable[[], tuple[int, int]]
    ) -> None:
        self._instances = instances
        self._cache_counts = cache_counts
        self._hits, self._total = cache_counts()

    def next(self) -> str:
        """Return the line for the time since the last call."""
        hits_now, total_now = self._cache_counts()
        hits, total = hits_now - self._hits, total_now - self._total
        self._hits, self._total = hits_now, total_now
        running = [(each.url, each.own_running) for each in sorted(self._instances(), key=attrgetter("url"))]
        workers = ", ".join([f"{url}: running={number}" for url, number in running])
        return (
            f"[stats] total_running={sum(map(itemgetter(1), running))}, workers: [{workers}], "
            f"cache_hit_rate={100 * hits / total if total else 0:.2f}% (hits={hits}/total={total})"
        )
