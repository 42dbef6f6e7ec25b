"""Every policy explains what it would choose, rightly and without a trace."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from fd_router.config.loading import SchedulerConfig
from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.explanation import Explanation
from fd_router.scheduling.loads import ReportedLoads
from fd_router.scheduling.policies import POLICIES, make_index, make_policy
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.request_view import RequestView
from tests.support.scheduling_fakes import FakeCandidate, FakeRequest, fleet, make_environment


class Desk:
    """A policy with all that it changes."""

    def __init__(self, name: str, seed: int, **options: Any) -> None:
        self.told = 0
        self.rng = random.Random(seed)
        config = SchedulerConfig(cache_block_size=4, **options)
        self.index = make_index(lambda: 0.0, config)
        self.figures = ReportedLoads(lambda: 0.0, config.load_max_age_secs)
        environment = Environment(lambda: 0.0, self.rng, self.on_choice, index=self.index, reported_loads=self.figures)
        self.policy = make_policy(name, environment, config)

    def on_choice(self, *_: object) -> None:
        self.told += 1

    def state(self) -> tuple[Any, ...]:
        return self.rng.getstate(), repr(self.index), self.index.version, self.told


def chosen(desk: Desk, explanation: Explanation) -> list[str]:
    return [explanation.standings[place].candidate.url for place in explanation.best]


@pytest.mark.parametrize("name", sorted(POLICIES))
@pytest.mark.parametrize("size", [1, 2, 8, 100])
def test_the_choice_is_among_those_explained_and_explaining_leaves_no_trace(name: str, size: int) -> None:
    for seed in range(30):
        rng = random.Random(seed)
        candidates = [FakeCandidate(100 + n, rng.randrange(3), rng.randrange(3)) for n in range(size)]
        threshold = rng.choice([1.0, 9.0])
        one, other = (Desk(name, seed, balance_abs_threshold=threshold) for _ in range(2))
        for _ in range(5):
            request = FakeRequest("".join(rng.choices("ab", k=9)))
            before = one.state()
            explanation = one.policy.explain(request, candidates)
            assert one.state() == before
            assert [standing.candidate for standing in explanation.standings] == candidates
            choice = one.policy.choose(request, candidates)
            assert choice.url in chosen(one, explanation)
            assert choice is other.policy.choose(request, candidates), "explaining changed what is chosen"
            assert explanation.reason


def test_counting_policies_say_what_they_compare() -> None:
    explanation = Desk("request_num", 1).policy.explain(FakeRequest(), fleet(3, 1, 1))
    assert [standing.score for standing in explanation.standings] == [3, 1, 1]
    assert list(explanation.best) == [1, 2]
    assert explanation.reason == "fewest running requests: 1; one at random of 2 equals among 3 candidates"


def test_process_tokens_breaks_ties_by_requests() -> None:
    candidates = [FakeCandidate(1, 4, 0), FakeCandidate(2, 2, 0), FakeCandidate(3, 0, 8)]
    explanation = Desk("process_tokens", 1).policy.explain(FakeRequest(), candidates)
    assert list(explanation.best) == [1]
    assert explanation.reason == "fewest prompt tokens being processed: 0, with 2 running requests"


def test_power_of_two_never_takes_the_busiest() -> None:
    assert list(Desk("power_of_two", 1).policy.explain(FakeRequest(), fleet(0, 5, 9)).best) == [0, 1]
    assert list(Desk("power_of_two", 1).policy.explain(FakeRequest(), fleet(9, 0, 9)).best) == [0, 1, 2]


def test_round_robin_tells_whose_turn_it_is() -> None:
    desk, candidates = Desk("round_robin", 1), fleet(0, 0, 0)
    desk.policy.choose(FakeRequest(), candidates)
    for _ in range(2):
        explanation = desk.policy.explain(FakeRequest(), candidates)
        assert list(explanation.best) == [1]
        assert explanation.reason == "next in turn after http://10.0.0.1:8000"


def test_cache_aware_shows_hits_loads_and_scores() -> None:
    desk, candidates = Desk("cache_aware", 1, load_balance_weight=0.05), fleet(3, 4)
    desk.policy.choose(FakeRequest("aaaabbbb"), candidates[1:])
    explanation = desk.policy.explain(FakeRequest("aaaabbbbccccdddd"), candidates)
    rows = [(standing.hit, standing.load, standing.score) for standing in explanation.standings]
    assert rows == [(0, 3, pytest.approx(1 + 0.75 * 0.05)), (50, 4, pytest.approx(0.5 + 0.05))]
    assert explanation.reason == "lowest score 0.55: 50 % of the prompt known there, load 4 of 4"
    imbalanced = desk.policy.explain(FakeRequest("aaaabbbb"), fleet(1, 9))
    assert imbalanced.reason.startswith("process_tokens, since load imbalanced: fewest prompt tokens")
    assert [standing.hit for standing in imbalanced.standings] == [0, 100]


def test_remote_policies_show_what_the_instances_tell() -> None:
    desk, candidates = Desk("fd_remote_metrics_score", 1, waiting_weight=2.0), fleet(0, 1)
    desk.figures.report(candidates[0].url, running=3, waiting=2, own=0)
    explanation = desk.policy.explain(FakeRequest(), candidates)
    assert [standing.score for standing in explanation.standings] == [7, 1]


def test_a_policy_that_explains_nothing_is_shown_with_its_candidates() -> None:
    class Silent(Policy):
        def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
            return candidates[0]

    explanation = Silent(make_environment()).explain(FakeRequest(), fleet(1, 2))
    assert (explanation.reason, list(explanation.best)) == ("Silent doesn't explain its choices", [0, 1])
