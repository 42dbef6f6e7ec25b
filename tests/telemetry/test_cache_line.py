"""The line that FastDeploy's hit-rate scripts read."""

from __future__ import annotations

import time

from fd_router.scheduling.environment import Choice
from fd_router.telemetry.cache_line import MOST, cache_line
from tests.support.scheduling_fakes import FakeCandidate, fleet

NOW = time.mktime((2026, 3, 30, 20, 16, 57, 0, 0, -1)) + 0.0215
A, B = "http://10.0.0.1:8000", "http://10.0.0.2:8000"


def test_a_scored_choice() -> None:
    line = cache_line(Choice(A, "", fleet(20, 7), [20, 7], {A: 100}), NOW)
    assert line == (
        "cache-aware prefill: final strategy: cache_aware_scoring, selected=http://10.0.0.1:8000, "
        "loads=map[http://10.0.0.1:8000:20 http://10.0.0.2:8000:7], hitRatios=map[http://10.0.0.1:8000:100]. "
        "ts_ms=2026-03-30 20:16:57.021"
    )


def test_no_hits() -> None:
    assert ", hitRatios=map[]. ts_ms=" in cache_line(Choice(B, "", fleet(0, 0), [0.0, 0.0], {}), NOW)


def test_a_fallback() -> None:
    line = cache_line(Choice(A, "load imbalanced", fleet(1, 9), [1.0, 9.0], {}), NOW)
    assert line == (
        "cache-aware prefill: final strategy: process_tokens, reason: load imbalanced, "
        "loads=map[http://10.0.0.1:8000:1 http://10.0.0.2:8000:9]. ts_ms=2026-03-30 20:16:57.021"
    )


def test_of_a_large_fleet_those_that_matter() -> None:
    candidates = [FakeCandidate(number, number) for number in range(1, MOST + 50)]
    line = cache_line(Choice(A, "", candidates, list(range(1, MOST + 50)), {B: 50}), NOW)
    assert f"loads=map[{A}:1 {B}:2], hitRatios=map[{B}:50]. ts_ms=" in line


def test_the_last_millisecond_of_a_second() -> None:
    assert cache_line(Choice(A, "", fleet(0), [0], {}), NOW // 1 + 0.9995).endswith("20:16:57.999")
