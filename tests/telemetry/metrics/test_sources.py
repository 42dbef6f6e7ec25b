"""The gauges of sources, as Prometheus reads them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from fd_router.telemetry.metrics.sources import SourceCollector


class Health:
    def __init__(self, is_up: bool, failures: int) -> None:
        self.is_up = is_up
        self.failures = failures


def test_each_source_has_its_series() -> None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SourceCollector(lambda: [("dns a", Health(True, 2), 3), ("file b", Health(False, 1), 0)]))
    lines = generate_latest(registry).decode().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        'fd_router_source_up{source="dns a"} 1.0',
        'fd_router_source_up{source="file b"} 0.0',
        'fd_router_source_instances{source="dns a"} 3.0',
        'fd_router_source_instances{source="file b"} 0.0',
        'fd_router_source_failures_total{source="dns a"} 2.0',
        'fd_router_source_failures_total{source="file b"} 1.0',
    ]
