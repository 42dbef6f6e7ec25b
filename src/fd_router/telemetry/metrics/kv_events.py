"""Metrics of KV events: what engines told of their caches, and how far off the prefix index would have been."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from fd_router.telemetry.metrics.instruments import CounterFamily


class FollowedCache(msgspec.Struct, frozen=True):
    """One cache whose engine tells: an instance's, or one of its ranks'."""

    instance: str  # its URL
    blocks: int  # on the device
    is_whole: bool  # whether all that it holds was told
    events: Mapping[str, int]  # by kind
    gaps: Mapping[str, int]  # by what became of them
    orphans: int  # stored blocks whose beginning was never told


class KvEventMetrics:
    """``truth(role)`` gives whom to tell how far off the index was."""

    def __init__(self) -> None:
        self._followed: Callable[[], Sequence[FollowedCache]] = tuple
        self._truth = CounterFamily(
            "fd_router_prefix_index_truth_tokens_total",
            "Prompt tokens sent to instances that tell what they hold: all, those held, and those by which the prefix "
            "index was over or under that.",
            ("role", "kind"),
        )

    def watch(self, followed: Callable[[], Sequence[FollowedCache]]) -> None:
        """Show these caches at each scrape."""
        self._followed = followed

    def truth(self, role: str) -> Callable[[int, int, int], None]:
        """Return what takes (tokens of a prompt, those that the index knew, those that are held)."""
        prompt, held, over, under = (
            self._truth.child(role, kind) for kind in ("prompt", "held", "index_over", "index_under")
        )

        def note(tokens: int, indexed: int, told: int) -> None:
            prompt.value += tokens
            held.value += told
            if indexed > told:
                over.value += indexed - told
            else:
                under.value += told - indexed

        return note

    def collect(self) -> Iterable[Metric]:
        """Give all families; nothing as long as nobody tells."""
        if self._truth.has_children:
            yield from self._truth.collect()
        followed = self._followed()
        if not followed:
            return
        blocks = GaugeMetricFamily("fd_router_kv_event_blocks", "Blocks that engines told of.", labels=("instance",))
        whole = GaugeMetricFamily(
            "fd_router_kv_events_whole",
            "1: all that the cache holds was told; 0: a part is guessed.",
            labels=("instance",),
        )
        events = CounterMetricFamily("fd_router_kv_events_total", "KV events.", labels=("instance", "kind"))
        gaps = CounterMetricFamily(
            "fd_router_kv_event_gaps_total",
            "Gaps in KV events, by what became of them.",
            labels=("instance", "outcome"),
        )
        orphans = CounterMetricFamily(
            "fd_router_kv_event_orphan_blocks_total",
            "Stored blocks that can't be placed, since what they follow on was never told.",
            labels=("instance",),
        )
        for cache in followed:
            blocks.add_metric((cache.instance,), cache.blocks)
            whole.add_metric((cache.instance,), cache.is_whole)
            orphans.add_metric((cache.instance,), cache.orphans)
            for kind, count in cache.events.items():
                events.add_metric((cache.instance, kind), count)
            for outcome, count in cache.gaps.items():
                gaps.add_metric((cache.instance, outcome), count)
        yield from (blocks, whole, events, gaps, orphans)
