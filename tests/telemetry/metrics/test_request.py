from __future__ import annotations

from enum import Enum
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from fd_router import __version__
from fd_router.telemetry.metrics.request import (
    ANY_OTHER,
    CONTENT_TYPE,
    MAX_PAIRS,
    SECONDS_BOUNDS,
    Metrics,
    _Page,
    _pages_of,
)
from fd_router.telemetry.record import RequestRecord

URL = "http://10.0.0.1:8000"


class Health(Enum):
    HEALTHY = "healthy"
    SUSPECT = "suspect"


def inference(**changes: object) -> RequestRecord:
    record = RequestRecord("POST", "/v1/completions", "10.0.0.9", 100.0)
    record.inference, record.status, record.mixed, record.bytes_out = True, 200, URL, 50
    record.first_byte_at, record.finished_at = 100.02, 101.5
    for name, value in changes.items():
        setattr(record, name, value)
    return record


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset(labels.items())))


def test_a_request_is_counted_under_fastdeploys_names() -> None:
    metrics = Metrics()
    for _ in range(3):
        metrics.finished(inference())
    assert value(metrics, "http_requests_total", method="POST", endpoint="/v1/completions", status_code="200") == 3
    assert value(
        metrics, "inference_requests_total", mixed_worker=URL, prefill_worker="", decode_worker="", status_code="200"
    ) == 3  # fmt: skip
    labels = {"method": "POST", "endpoint": "/v1/completions"}
    assert value(metrics, "http_request_duration_seconds_count", **labels) == 3
    assert value(metrics, "http_request_duration_seconds_sum", **labels) == 4.5
    assert value(metrics, "http_request_duration_seconds_bucket", le="1.0", **labels) == 0
    assert value(metrics, "http_request_duration_seconds_bucket", le="2.5", **labels) == 3
    assert value(metrics, "http_request_duration_seconds_bucket", le="+Inf", **labels) == 3


def test_an_inference_request_is_counted_under_our_names_too() -> None:
    metrics = Metrics()
    metrics.finished(inference(stream=True))
    metrics.finished(inference(first_byte_at=0.0, status=502, mixed="", outcome="failed"))
    assert value(metrics, "fd_router_time_to_first_token_seconds_count", stream="true") == 1
    assert value(metrics, "fd_router_time_to_first_token_seconds_bucket", stream="true", le="0.01") == 0
    assert value(metrics, "fd_router_time_to_first_token_seconds_bucket", stream="true", le="0.025") == 1
    assert value(metrics, "fd_router_time_to_first_token_seconds_count", stream="false") == 0
    assert value(metrics, "fd_router_request_duration_seconds_sum", stream="true") == 1.5
    assert value(metrics, "fd_router_request_duration_seconds_count", stream="false") == 1
    assert value(metrics, "fd_router_response_bytes_total", endpoint="/v1/completions") == 100
    assert value(metrics, "fd_router_client_disconnects_total", endpoint="/v1/completions") == 0


def test_a_pair_is_named_by_both_its_instances() -> None:
    metrics = Metrics()
    metrics.finished(inference(mixed="", prefill="http://p:1", decode="http://d:1"))
    assert value(
        metrics, "inference_requests_total", mixed_worker="", prefill_worker="http://p:1", decode_worker="http://d:1",
        status_code="200",
    ) == 1  # fmt: skip


def test_a_control_request_is_no_inference_request() -> None:
    metrics = Metrics()
    record = RequestRecord("GET", "/health", "10.0.0.9", 1.0)
    record.status, record.finished_at = 200, 1.001
    metrics.finished(record)
    names = {name for name, _ in samples(metrics)}
    assert value(metrics, "http_requests_total", method="GET", endpoint="/health", status_code="200") == 1
    assert "inference_requests_total" not in names
    assert value(metrics, "fd_router_request_duration_seconds_count", stream="false") == 0


def test_a_client_that_left_is_counted() -> None:
    metrics = Metrics()
    metrics.finished(inference(outcome="client_gone", status=499))
    assert value(metrics, "fd_router_client_disconnects_total", endpoint="/v1/completions") == 1


@pytest.mark.parametrize(
    ("outcome", "status", "broken"),
    [("failed", 200, 1), ("failed", 502, 0), ("client_gone", 200, 0), ("completed", 200, 0)],
)
def test_an_answer_that_broke_is_counted_where_no_status_tells_of_it(outcome: str, status: int, broken: int) -> None:
    metrics = Metrics()
    metrics.finished(inference(outcome=outcome, status=status))
    assert value(metrics, "fd_router_broken_answers_total", endpoint="/v1/completions") == broken


def test_invented_methods_neither_become_labels_nor_are_kept() -> None:
    metrics = Metrics()
    for number in range(100):
        metrics.finished(inference(method=f"M{number}"))
    assert value(metrics, "http_requests_total", method="OTHER", endpoint="/v1/completions", status_code="200") == 100
    assert len(metrics._tallies) == 1


def test_a_finish_before_the_start_counts_as_no_time() -> None:
    metrics = Metrics()
    metrics.finished(inference(finished_at=0.0))
    assert value(metrics, "fd_router_request_duration_seconds_sum", stream="false") == 0
    assert value(metrics, "fd_router_request_duration_seconds_bucket", stream="false", le="0.001") == 1


def test_failures_retries_and_cache_requests() -> None:
    metrics = Metrics()
    assert value(metrics, "router_cache_request_total") == 0
    assert value(metrics, "router_cache_hit_total") == 0
    metrics.upstream_failed(URL, "refused")
    metrics.retried("refused")
    metrics.cache_request(True)
    metrics.cache_request(False)
    assert value(metrics, "fd_router_upstream_errors_total", instance=URL, reason="refused") == 1
    assert value(metrics, "fd_router_retries_total", reason="refused") == 1
    assert value(metrics, "router_cache_request_total") == 2
    assert value(metrics, "router_cache_hit_total") == 1
    assert metrics.cache_counts() == (1, 2)


def test_instances_are_read_at_each_scrape() -> None:
    metrics = Metrics()
    assert value(metrics, "fd_router_instance_healthy", instance=URL, role="mixed") is None
    instance = SimpleNamespace(
        url=URL, own_running=2, own_tokens=900, health=Health.HEALTHY, registration=SimpleNamespace(role="mixed")
    )
    metrics.watch_instances(lambda: [instance])
    labels = {"instance": URL, "role": "mixed"}
    assert value(metrics, "fd_router_instance_running_requests", **labels) == 2
    assert value(metrics, "fd_router_instance_tokens", **labels) == 900
    assert value(metrics, "fd_router_instance_healthy", **labels) == 1
    instance.own_running, instance.health = 3, Health.SUSPECT
    assert value(metrics, "fd_router_instance_running_requests", **labels) == 3
    assert value(metrics, "fd_router_instance_healthy", **labels) == 0
    assert value(metrics, "fd_router_instances", role="mixed", health="suspect") == 1


def test_a_removed_instances_series_go_and_may_come_back() -> None:
    metrics = Metrics()
    other = inference(mixed="", prefill="http://p:1", decode=URL)
    for record in (inference(), other, inference(mixed="http://10.0.0.2:8000")):
        metrics.finished(record)
    metrics.upstream_failed(URL, "reset")
    metrics.forget_instance(URL)
    assert URL not in metrics.render().decode()
    assert "http://10.0.0.2:8000" in metrics.render().decode()
    assert value(metrics, "http_requests_total", method="POST", endpoint="/v1/completions", status_code="200") == 3
    metrics.finished(inference())
    assert value(
        metrics, "inference_requests_total", mixed_worker=URL, prefill_worker="", decode_worker="", status_code="200"
    ) == 1  # fmt: skip


def test_the_process_the_build_and_the_log_are_shown() -> None:
    metrics = Metrics()
    lost = 0
    metrics.watch_lines_lost(lambda: lost)
    assert value(metrics, "fd_router_log_lines_dropped_total") == 0
    lost = 7
    assert value(metrics, "fd_router_log_lines_dropped_total") == 7
    found = samples(metrics)
    names = {name for name, _ in found}
    assert {"process_resident_memory_bytes", "python_gc_collections_total", "python_info"} <= names
    assert any(name == "fd_router_build_info" and ("version", __version__) in labels for name, labels in found)


def test_nothing_is_written_that_was_not_asked_for() -> None:
    metrics = Metrics()
    metrics.finished(inference())
    text = metrics.render().decode()
    assert "_created" not in text
    assert text.count("# TYPE http_requests_total counter\n") == 1
    assert text.count("# TYPE http_request_duration_seconds histogram\n") == 1


def test_two_routers_in_a_process_do_not_share_and_the_global_registry_is_left_alone() -> None:
    before = [family.name for family in REGISTRY.collect()]
    one, two = Metrics(), Metrics()
    one.retried("refused")
    assert value(two, "fd_router_retries_total", reason="refused") is None
    assert [family.name for family in REGISTRY.collect()] == before


def test_the_bounds_reach_from_a_millisecond_to_half_an_hour() -> None:
    assert SECONDS_BOUNDS[0] == 0.001
    assert SECONDS_BOUNDS[-1] == 1800
    assert list(SECONDS_BOUNDS) == sorted(set(SECONDS_BOUNDS))


def test_the_content_type_is_the_text_formats() -> None:
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize("status", [100, 200, 499, 503])
def test_statuses_are_shown_as_they_are(status: int) -> None:
    metrics = Metrics()
    metrics.finished(inference(status=status))
    assert (
        value(metrics, "http_requests_total", method="POST", endpoint="/v1/completions", status_code=str(status)) == 1
    )


def test_pairs_without_number_are_told_by_their_prefill_instance() -> None:
    metrics = Metrics()
    for prefill in range(40):
        for decode in range(40):
            metrics.finished(inference(mixed="", prefill=f"http://p{prefill}", decode=f"http://d{decode}"))
    series = [labels for name, labels in samples(metrics) if name == "inference_requests_total"]
    assert len(series) == MAX_PAIRS + 40 - MAX_PAIRS // 40
    labels = {"mixed_worker": "", "prefill_worker": "http://p39", "decode_worker": ANY_OTHER, "status_code": "200"}
    assert value(metrics, "inference_requests_total", **labels) == 40
    assert len(metrics._tallies) == len(series)
    metrics.forget_instance("http://p0")
    metrics.finished(inference(mixed="", prefill="http://p39", decode="http://d1"))
    assert value(metrics, "inference_requests_total", **(labels | {"decode_worker": "http://d1"})) == 1


def test_pages_are_the_whole() -> None:
    metrics = Metrics()
    metrics.finished(inference())
    pages = list(metrics.pages())
    assert len(pages) > 20
    assert all(page.count(b"# TYPE ") <= 2 for page in pages)


def test_a_large_family_is_written_in_pages_that_are_the_same_together() -> None:
    family = CounterMetricFamily("tokens_total", "Of 1,200\nkeys.", labels=("key",))
    for number in range(1200):
        family.add_metric((f"key-{number}",), number)
    pages = list(_pages_of(family))
    assert len(pages) == 3
    assert b"".join(pages) == generate_latest(_Page(family))


def test_what_a_collector_gives_of_a_large_fleet_in_parts_is_one_family() -> None:
    metrics = Metrics()
    mixed = SimpleNamespace(role="mixed")
    fleet = [
        SimpleNamespace(url=f"http://{n}", own_running=n, own_tokens=n, health=Health.HEALTHY, registration=mixed)
        for n in range(2500)
    ]
    metrics.watch_instances(lambda: fleet)
    page = metrics.render().decode()
    for name in ("running_requests", "tokens", "healthy"):
        assert page.count(f"# TYPE fd_router_instance_{name} gauge") == 1
        assert page.count(f"\nfd_router_instance_{name}{{") == len(fleet)
    assert [family.name for family in text_string_to_metric_families(page)].count("fd_router_instance_tokens") == 1
