from __future__ import annotations

from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from fd_router.telemetry.metrics.scheduling import DECISION_BOUNDS, HIT_BOUNDS, SchedulingMetrics, observe_hit


def page(metrics: SchedulingMetrics) -> str:
    registry = CollectorRegistry()
    metrics.register(registry)
    return generate_latest(registry).decode()


@pytest.mark.parametrize("percent", range(101))
def test_every_percentage_has_its_bucket(percent: int) -> None:
    histogram = SchedulingMetrics().hits("mixed")
    observe_hit(histogram, percent)
    bucket = histogram.counts.index(1)
    assert percent / 100 <= HIT_BOUNDS[bucket]
    assert bucket == 0 or percent / 100 > HIT_BOUNDS[bucket - 1]
    assert histogram.sum == percent / 100


def test_hits_and_decisions_are_shown_by_role() -> None:
    metrics = SchedulingMetrics()
    observe_hit(metrics.hits("prefill"), 50)
    metrics.decisions("decode").counts[len(DECISION_BOUNDS)] += 1
    text = page(metrics)
    assert 'fd_router_prefix_hit_ratio_bucket{le="0.4",role="prefill"} 0.0' in text
    assert 'fd_router_prefix_hit_ratio_bucket{le="0.5",role="prefill"} 1.0' in text
    assert 'fd_router_decision_duration_seconds_bucket{le="1.0",role="decode"} 0.0' in text
    assert 'fd_router_decision_duration_seconds_count{role="decode"} 1.0' in text
    assert "fd_router_prefix_index" not in text


def test_an_index_is_shown_as_it_is_at_the_scrape() -> None:
    metrics = SchedulingMetrics()
    index = SimpleNamespace(blocks=1, bytes_estimate=308, forgotten={"age": 7})
    metrics.watch_index(index)
    index.blocks = 2
    text = page(metrics)
    assert "fd_router_prefix_index_blocks 2.0" in text
    assert "fd_router_prefix_index_bytes 308.0" in text
    assert 'fd_router_prefix_index_forgotten_blocks_total{reason="age"} 7.0' in text
