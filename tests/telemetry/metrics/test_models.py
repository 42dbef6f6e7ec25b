"""Series by model: only of what is served, and none where models aren't told apart."""

from __future__ import annotations

from fd_router.telemetry.metrics.request import Metrics
from fd_router.telemetry.record import RequestRecord


def record(model: str, status: int = 200, first_byte_at: float = 1.5) -> RequestRecord:
    return RequestRecord(
        "POST", "/v1/completions", "10.0.0.1", 1.0, first_byte_at=first_byte_at, finished_at=2.0, status=status,
        inference=True, model=model,
    )  # fmt: skip


def lines(metrics: Metrics) -> list[str]:
    return [line for line in metrics.render().decode().splitlines() if line.startswith("fd_router_model")]


def test_nothing_is_shown_without_models() -> None:
    metrics = Metrics()
    metrics.finished(record(""))
    assert lines(metrics) == []


def test_requests_count_under_the_model_that_served_them() -> None:
    metrics = Metrics()
    for each in (record("big"), record("big"), record("big", 502, 0.0), record("small")):
        metrics.finished(each)
    metrics.models.refused()
    shown = lines(metrics)
    assert 'fd_router_model_requests_total{model="big",status_code="200"} 2.0' in shown
    assert 'fd_router_model_requests_total{model="big",status_code="502"} 1.0' in shown
    assert 'fd_router_model_request_duration_seconds_count{model="big"} 3.0' in shown
    assert 'fd_router_model_time_to_first_token_seconds_count{model="big"} 2.0' in shown
    assert "fd_router_model_not_found_total 1.0" in shown


def test_series_of_a_model_that_is_gone_go() -> None:
    metrics = Metrics()
    metrics.finished(record("big"))
    metrics.finished(record("lora"))
    metrics.models.keep({"big"})
    assert not [line for line in lines(metrics) if "lora" in line]
    assert [line for line in lines(metrics) if 'model="big"' in line]


def test_who_serves_is_asked_for_at_each_scrape() -> None:
    metrics = Metrics()
    metrics.models.watch = lambda: {("big", "mixed"): (3, 2)}
    assert lines(metrics) == [
        'fd_router_model_instances{model="big",role="mixed"} 3.0',
        'fd_router_model_instances_available{model="big",role="mixed"} 2.0',
    ]
