import math

import msgspec

from fd_router.devtools.report.outcomes import Limits, Outcome, Result, percentile
from fd_router.devtools.report.tables import json_of, number_text

OUTCOMES = [
    Outcome(0, 100, "a", ttft=1, seconds=2, cached_tokens=50),
    Outcome(1, 300, "b", ttft=3, seconds=6, cached_tokens=0),
    Outcome(2, 100, "a", error="502 no_instance"),
    Outcome(3, 100, "b", error="502 no_instance"),
    Outcome(4, 50, "", ttft=2, seconds=4),
]


def test_a_summary():
    summary = Result("r", OUTCOMES, 4, 0.1).summary()
    assert (summary.requests, summary.failures, summary.errors) == (5, 2, {"502 no_instance": 2})
    assert (summary.ttft_mean, summary.ttft_p50, summary.ttft_p99, summary.seconds_mean) == (2, 2, 3, 4)
    assert summary.hit_rate == 50 / 400  # of those that tell
    assert summary.spread == 300 / (350 / 4)  # 300 tokens at b, 50 at a, none at two others


def test_nothing_served():
    summary = Result("r", OUTCOMES[2:4], 2, 0).summary()
    assert (summary.requests, summary.failures) == (2, 2)
    assert all(math.isnan(value) for value in (summary.ttft_mean, summary.ttft_p99, summary.hit_rate, summary.spread))


def test_percentiles_are_values_that_occurred():
    assert [percentile([1, 2, 3, 4], percent) for percent in (1, 50, 75, 99)] == [1, 2, 3, 4]
    assert math.isnan(percentile([], 50))


def test_json_has_null_for_what_is_not_known():
    document = msgspec.json.decode(json_of([Result("r", OUTCOMES[2:3], 0, 0)], {"trace": "t"}))
    assert document["conditions"] == {"trace": "t"}
    assert document["results"][0]["ttft_mean"] is None
    assert document["results"][0]["errors"] == {"502 no_instance": 1}


def test_three_digits_are_enough():
    assert [number_text(each) for each in (0.0123, 1.234, 12.345, 123.4, math.nan)] == [
        "0.012",
        "1.23",
        "12.35" if f"{12.345:.2f}" == "12.35" else "12.34",
        "123",
        "–",
    ]


def test_objectives_beside_the_first_token():
    outcomes = [
        Outcome(0, 1, ttft=1, seconds=3, output_tokens=5, session="a"),  # 0.5 s a token
        Outcome(1, 1, ttft=1, seconds=2, output_tokens=11, session="a"),  # 0.1 s
        Outcome(2, 1, ttft=4, seconds=4, output_tokens=1, session="b"),  # no second token
        Outcome(3, 1, error="502"),
    ]
    summary = Result("r", outcomes, 1, 0, Limits(ttft=2, tpot=0.2)).summary()
    assert summary.tpot_mean == 0.3
    assert summary.goodput == 1 / 4
    assert summary.tokens_per_sec == 17 / 6  # the last one ends at 6
    assert summary.fairness == (1 + 4) ** 2 / (2 * (1 + 16))
    assert summary.seconds_p99 == 4
    assert Result("r", outcomes, 1, 0).summary().goodput == 3 / 4
