"""Traffic between two frames: rates, means, estimates."""

from __future__ import annotations

import pytest

from fd_router.api.dashboard.traffic import Interval, quantile_ms
from fd_router.telemetry.metrics.models import ModelTotals
from fd_router.telemetry.metrics.request import SECONDS_BOUNDS, Metrics
from fd_router.telemetry.record import RequestRecord

CHAT = "/v1/chat/completions"


def record(status: int = 200, first: float = 0.2, seconds: float = 1.2, **more: object) -> RequestRecord:
    made = RequestRecord("POST", CHAT, "10.0.0.1", 100.0, inference=True, status=status, attempts=1)
    made.first_byte_at, made.finished_at = 100.0 + first, 100.0 + seconds
    for name, value in more.items():
        setattr(made, name, value)
    return made


def observed(*records: RequestRecord) -> Interval:
    metrics, interval = Metrics(), Interval(frozenset({CHAT}))
    metrics.observer = interval.observe
    for each in records:
        metrics.finished(each)
        interval.finished(each)
    metrics.settle()
    metrics.settle()  # nothing is counted twice
    return interval


def test_rates_and_means_of_all_and_by_instance() -> None:
    one, other = "http://10.0.0.1:8000", "http://10.0.0.2:8000"
    interval = observed(
        record(mixed=one),
        record(mixed=one, first=0.4),
        record(mixed=other, status=502, first_byte_at=0.0),
        record(mixed=other, status=499, outcome="client_gone"),
    )
    told = interval.as_json(2.0, {})
    assert (told["rate"], told["failed"], told["left"]) == (2.0, 0.5, 0.5)
    broken = observed(record(mixed=one, outcome="failed"), record(mixed=one))
    assert (broken.all.failed, broken.by_url[one].failed) == (1, 0), "the latter counts attempts"
    assert told["ttft_ms"] == pytest.approx(266.67)
    assert interval.by_url[one].mean_first_ms == pytest.approx(300.0)
    assert (interval.by_url[other].requests, interval.by_url[other].failed) == (2, 1)


def test_an_instances_failures_show_though_others_answered() -> None:
    urls = one, other, third = [f"http://10.0.0.{number}:8000" for number in (1, 2, 3)]

    def failed(*outcomes: tuple[str, str], **more: object) -> RequestRecord:
        made = record(**more)  # type: ignore[arg-type]
        for url, outcome in outcomes:
            made.mixed, made.attempt_started = url, 100.0
            made.attempt_failed(made.attempt(outcome, 101.0))
        return made

    answered = failed((one, "reset"), (other, "busy"))
    answered.mixed, answered.attempt_started = third, 100.5
    interval = observed(answered, failed((one, "refused"), (other, "refused"), status=502, first_byte_at=0.0))
    assert [interval.by_url[url].failed for url in urls] == [2, 1, 0]
    assert interval.all.failed == 1


def test_a_pair_counts_for_both_its_instances() -> None:
    interval = observed(record(prefill="http://10.0.0.1:1", decode="http://10.0.0.2:2"))
    assert {url: sums.requests for url, sums in interval.by_url.items()} == {
        "http://10.0.0.1:1": 1,
        "http://10.0.0.2:2": 1,
    }


def test_the_routers_own_endpoints_are_no_traffic() -> None:
    assert observed(record(endpoint="/metrics", path="/metrics")).all.requests == 0


def test_time_per_token_is_estimated_from_streams() -> None:
    told = observed(record(stream=True, first=0.2, seconds=1.2, bytes_out=25_000), record(bytes_out=9)).as_json(1.0, {})
    assert told["ms_per_token"] == pytest.approx(10.0)  # 100 events in a second
    assert observed(record()).as_json(1.0, {})["ms_per_token"] is None


def test_models_are_told_by_what_came_since() -> None:
    interval = Interval(frozenset())
    interval.begin({"m": ModelTotals(10, 1, 10, 5.0)})
    told = interval.as_json(2.0, {"m": ModelTotals(14, 2, 12, 6.0), "new": ModelTotals(0, 0, 0, 0.0)})
    assert told["models"] == [
        {"model": "m", "rate": 2.0, "failed": 0.5, "ttft_ms": 500.0},
        {"model": "new", "rate": 0.0, "failed": 0.0, "ttft_ms": None},
    ]


def test_a_models_totals_are_those_of_its_records() -> None:
    metrics = Metrics()
    for each in (record(model="m"), record(model="m", status=502, first_byte_at=0.0), record(model="n")):
        metrics.finished(each)
    totals = metrics.models.totals()
    assert totals["m"]._replace(first_seconds=0) == ModelTotals(2, 1, 1, 0)
    assert totals["n"].first_seconds == pytest.approx(0.2)


def test_a_quantile_lies_within_its_bucket() -> None:
    counts = [0] * (len(SECONDS_BOUNDS) + 1)
    assert quantile_ms(counts, 0.95) is None
    counts[0] = 100  # all within the first ms
    assert quantile_ms(counts, 0.95) == pytest.approx(0.95)
    counts[-1] = 100_000
    assert quantile_ms(counts, 0.95) == SECONDS_BOUNDS[-1] * 1e3
