"""The policies that look at the counts only (and random and in turn, which look at nothing)."""

from __future__ import annotations

from collections import Counter

import pytest

from fd_router.errors import ConfigError
from fd_router.scheduling.policies import make_policy
from fd_router.scheduling.policy import Policy
from tests.support.scheduling_fakes import FakeCandidate, FakeRequest, fleet, make_environment

COUNTING = ["power_of_two", "process_tokens", "random", "request_num", "round_robin"]


def make(name: str, seed: int = 1) -> Policy:
    return make_policy(name, make_environment(seed))


def chosen(policy: Policy, candidates: list[FakeCandidate], times: int = 1) -> list[int]:
    """Return the places of the candidates chosen, counted from 1."""
    urls = [candidate.url for candidate in candidates]
    return [urls.index(policy.choose(FakeRequest(), candidates).url) + 1 for _ in range(times)]


@pytest.mark.parametrize("name", COUNTING)
class TestAll:
    def test_the_only_candidate(self, name: str) -> None:
        assert chosen(make(name), fleet(7), 3) == [1, 1, 1]

    def test_equals_are_all_chosen(self, name: str) -> None:
        counts = Counter(chosen(make(name), fleet(2, 2, 2, 2, 2), 1000))
        assert sorted(counts) == [1, 2, 3, 4, 5]
        assert min(counts.values()) > 100

    def test_the_same_seed_makes_the_same_choices(self, name: str) -> None:
        candidates = fleet(3, 1, 1, 1, 0, 0, 2)
        assert chosen(make(name, 5), candidates, 50) == chosen(make(name, 5), candidates, 50)

    def test_choosing_changes_no_count(self, name: str) -> None:
        candidates = fleet(3, 1)
        chosen(make(name), candidates, 10)
        assert [candidate.running for candidate in candidates] == [3, 1]


def test_request_num() -> None:
    assert set(chosen(make("request_num"), fleet(3, 1, 2), 20)) == {2}
    assert set(chosen(make("request_num"), fleet(3, 1, 2, 1), 100)) == {2, 4}
    assert set(chosen(make("request_num"), fleet(1, 0, 0), 100)) == {2, 3}


def test_process_tokens() -> None:
    busy = FakeCandidate(1, running=1, tokens=900)
    long = FakeCandidate(2, running=9, tokens=100)
    assert set(chosen(make("process_tokens"), [busy, long], 20)) == {2}


def test_process_tokens_among_equals_takes_the_one_with_fewer_requests() -> None:
    candidates = [FakeCandidate(1, 4, 0), FakeCandidate(2, 2, 0), FakeCandidate(3, 0, 8), FakeCandidate(4, 2, 0)]
    assert set(chosen(make("process_tokens"), candidates, 100)) == {2, 4}


def test_power_of_two_never_chooses_the_busiest_of_all() -> None:
    counts = Counter(chosen(make("power_of_two"), fleet(0, 5, 9), 600))
    assert sorted(counts) == [1, 2]
    assert 300 < counts[1] < 500  # two of the three pairs hold the first


def test_power_of_two_of_two_is_the_less_busy() -> None:
    assert set(chosen(make("power_of_two"), fleet(5, 4), 50)) == {2}


def test_random_does_not_look_at_counts() -> None:
    counts = Counter(chosen(make("random"), fleet(100, 0), 1000))
    assert 400 < counts[1] < 600


class TestRoundRobin:
    def test_in_turn(self) -> None:
        assert chosen(make("round_robin"), fleet(9, 0, 5), 7) == [1, 2, 3, 1, 2, 3, 1]

    def test_one_that_leaves_costs_nobody_a_turn(self) -> None:
        policy, (one, two, three, four) = make("round_robin"), fleet(0, 0, 0, 0)
        assert policy.choose(FakeRequest(), [one, two, three, four]) is one
        assert policy.choose(FakeRequest(), [one, two, three, four]) is two
        assert policy.choose(FakeRequest(), [one, three, four]) is three
        assert policy.choose(FakeRequest(), [one, three]) is one

    def test_one_that_comes_takes_its_place_in_the_order(self) -> None:
        policy, (one, two, three) = make("round_robin"), fleet(0, 0, 0)
        assert policy.choose(FakeRequest(), [one, three]) is one
        assert policy.choose(FakeRequest(), [one, two, three]) is two
        assert policy.choose(FakeRequest(), [two, three]) is three
        assert policy.choose(FakeRequest(), [one, two, three]) is one


def test_an_unknown_name() -> None:
    with pytest.raises(ConfigError, match=r"policy 'rondom' is not available.*power_of_two, process_tokens"):
        make("rondom")
