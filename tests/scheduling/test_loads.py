"""Loads, the metrics-score policies on worked examples, and fair ties in fleets of any size."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from fd_router.config.loading import SchedulerConfig
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.loads import TIES, ReportedLoads, lowest_places, own_running
from fd_router.scheduling.policies import make_policy
from tests.support.scheduling_fakes import FakeCandidate, FakeRequest, fleet


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def figures(clock: Clock) -> ReportedLoads:
    return ReportedLoads(clock, max_age=2)


def chosen(name: str, candidates: list[FakeCandidate], figures: ReportedLoads, waiting_weight: float = 1) -> set[int]:
    """Return the numbers of the candidates that are chosen in thirty choices."""
    environment = Environment(lambda: 0.0, random.Random(1), reported_loads=figures)
    policy = make_policy(name, environment, SchedulerConfig(waiting_weight=waiting_weight))
    choices = [policy.choose(FakeRequest(), candidates) for _ in range(30)]
    return {1 + candidates.index(choice) for choice in choices}  # type: ignore[arg-type]


def test_fd_metrics_score_counts_what_this_router_has_sent(figures: ReportedLoads) -> None:
    assert chosen("fd_metrics_score", fleet(3, 2, 4, 2), figures) == {2, 4}
    figures.report("http://10.0.0.1:8000", 0, 0, 0)
    assert chosen("fd_metrics_score", fleet(3, 2, 4, 2), figures) == {2, 4}


@pytest.mark.parametrize(("weight", "expected"), [(1, {2}), (2, {1, 2}), (3, {1})])
def test_fd_remote_metrics_score(figures: ReportedLoads, weight: float, expected: set[int]) -> None:
    candidates = fleet(0, 0, 0)
    figures.report(candidates[0].url, running=9, waiting=0, own=0)
    figures.report(candidates[1].url, running=5, waiting=2, own=0)
    figures.report(candidates[2].url, running=3, waiting=9, own=0)
    assert chosen("fd_remote_metrics_score", candidates, figures, weight) == expected


@pytest.mark.parametrize("size", [3, 100])
class TestRemoteLoads:
    def test_what_was_sent_and_came_back_since_is_counted(self, figures: ReportedLoads, size: int) -> None:
        candidates = fleet(*[0] * size)
        loads = figures.loads(2)
        candidates[0].running = 3
        figures.report(candidates[0].url, running=10, waiting=4, own=3)
        assert loads(candidates)[0] == 18
        candidates[0].running = 5
        assert loads(candidates)[0] == 20
        candidates[0].running = 1
        assert loads(candidates)[0] == 16
        candidates[0].running = 1000
        assert loads(candidates)[0] == 1015

    def test_new_figures_count_at_once(self, figures: ReportedLoads, size: int) -> None:
        candidates = fleet(*[1] * size)
        loads = figures.loads(1)
        assert list(loads(candidates)) == [1] * size
        figures.report(candidates[1].url, 7, 0, 1)
        assert list(loads(candidates))[:3] == [1, 7, 1]
        figures.report(candidates[1].url, 8, 0, 1)
        assert list(loads(candidates))[:3] == [1, 8, 1]
        figures.forget(candidates[1].url)
        assert list(loads(candidates))[:3] == [1, 1, 1]

    def test_old_figures_count_as_absent(self, clock: Clock, figures: ReportedLoads, size: int) -> None:
        candidates = fleet(*[1] * size)
        loads = figures.loads(1)
        figures.report(candidates[0].url, 7, 0, 1)
        clock.now += 1
        figures.report(candidates[1].url, 9, 0, 1)
        clock.now += 0.99
        assert list(loads(candidates))[:3] == [7, 9, 1]
        clock.now += 0.01
        assert list(loads(candidates))[:3] == [1, 9, 1]
        assert figures.get(candidates[0].url) is None
        clock.now += 1
        assert list(loads(candidates)) == [1] * size
        figures.report(candidates[0].url, 5, 0, 1)
        assert list(loads(candidates))[:3] == [5, 1, 1]

    def test_no_load_is_below_zero(self, figures: ReportedLoads, size: int) -> None:
        candidates = fleet(*[4] * size)
        figures.report(candidates[0].url, 0, 0, own=4)
        candidates[0].running = 0
        assert figures.loads(1)(candidates)[0] == 0

    def test_other_candidates(self, figures: ReportedLoads, size: int) -> None:
        candidates = fleet(*[1] * size)
        loads = figures.loads(1)
        figures.report(candidates[2].url, 9, 0, 1)
        assert list(loads(candidates))[:3] == [1, 1, 9]
        assert list(loads(candidates[1:]))[:2] == [1, 9]
        figures.report(candidates[2].url, 3, 0, 1)
        assert list(loads(candidates[1:]))[:2] == [1, 3]


class TestLowestPlaces:
    def test_of_few_all(self) -> None:
        assert lowest_places([3, 1, 2, 1], 1, random.Random(1)) == [1, 3]

    @pytest.mark.parametrize("kind", ["list", "array"])
    def test_of_many_some_each_in_its_turn(self, kind: str) -> None:
        import numpy as np  # noqa: PLC0415

        values = [5.0] * 100 + [1.0] * 100 + [5.0] * 100
        given = values if kind == "list" else np.array(values)
        rng = random.Random(1)
        counts = Counter(place for _ in range(500) for place in lowest_places(given, 1.0, rng))  # type: ignore[arg-type]
        assert set(counts) == set(range(100, 200))
        for _ in range(50):
            places = lowest_places(given, 1.0, rng)  # type: ignore[arg-type]
            assert len(places) == len(set(places)) == TIES

    @pytest.mark.parametrize("place", [0, 150, 299])
    def test_the_only_one_of_many_is_found(self, place: int) -> None:
        values = [5] * 300
        values[place] = 1
        assert all(lowest_places(values, 1, random.Random(seed)) == [place] for seed in range(20))


@pytest.mark.parametrize("name", ["request_num", "process_tokens", "fd_metrics_score", "fd_remote_metrics_score"])
def test_a_large_fleet_gets_its_requests_evenly(name: str, figures: ReportedLoads) -> None:
    candidates = fleet(*[0] * 300)
    policy = make_policy(name, Environment(lambda: 0.0, random.Random(1), reported_loads=figures))
    for _ in range(900):
        policy.choose(FakeRequest(), candidates).acquire(10)  # type: ignore[attr-defined]
    counts = [candidate.running for candidate in candidates]
    assert (min(counts), max(counts)) == (3, 3)


def test_running() -> None:
    assert own_running(fleet(3, 0, 7)) == [3, 0, 7]
