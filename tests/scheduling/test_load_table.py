"""The columns of a large fleet say what its instances say, whatever happens to either."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from fd_router.instances.instance import Instance
from fd_router.instances.registration import parse_registration
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.load_table import VECTORIZE_ABOVE, LoadTable
from fd_router.scheduling.policies import make_policy
from tests.support.scheduling_fakes import FakeCandidate, FakeRequest, make_environment


def instances(count: int) -> tuple[Instance, ...]:
    return tuple(
        Instance(parse_registration({"role": "mixed", "host_ip": f"10.0.{n // 250}.{n % 250}", "port": 8000}))
        for n in range(count)
    )


def check(load_table: LoadTable, candidates: Sequence[Instance]) -> None:
    assert list(load_table.running(candidates)) == [candidate.running for candidate in candidates]
    assert list(load_table.tokens(candidates)) == [candidate.tokens for candidate in candidates]


def is_up(load_table: LoadTable, candidates: Sequence[Instance]) -> bool:
    return not isinstance(load_table.running(candidates), list)


@pytest.mark.parametrize("seed", range(10))
def test_it_always_says_what_the_instances_say(seed: int) -> None:
    rng = random.Random(seed)
    fleet = instances(VECTORIZE_ABOVE + 30)
    lists = [fleet, fleet[:-5], fleet[3:], fleet[:VECTORIZE_ABOVE], fleet[7 : VECTORIZE_ABOVE + 8]]
    tables = [LoadTable(), LoadTable()]
    under_way: list[tuple[Instance, int]] = []
    up = 0
    for _ in range(400):
        candidates = rng.choice(lists)
        load_table = rng.choice(tables)
        for _ in range(rng.randrange(4)):
            check(load_table, candidates)
        up += is_up(load_table, candidates)
        for _ in range(rng.randrange(5)):
            instance, tokens = rng.choice(fleet), rng.randrange(1000)
            instance.acquire(tokens)
            under_way.append((instance, tokens))
        while under_way and rng.random() < 0.6:
            at = rng.randrange(len(under_way))
            instance, tokens = under_way[at]
            if tokens:
                instance.release_tokens(tokens)
                under_way[at] = (instance, 0)
            else:
                instance.release()
                del under_way[at]
    assert up > 100


def test_a_few_and_those_that_change_all_the_time_are_read_as_they_are() -> None:
    load_table, fleet = LoadTable(), instances(VECTORIZE_ABOVE + 1)
    few = fleet[:VECTORIZE_ABOVE]
    assert not any(is_up(load_table, few) for _ in range(3))
    assert not any(is_up(load_table, list(fleet)) for _ in range(3))
    assert [is_up(load_table, fleet) for _ in range(3)] == [False, True, True]


def test_candidates_that_tell_nothing_are_read_as_they_are() -> None:
    load_table = make_environment().load_table
    fleet = tuple(FakeCandidate(number, number) for number in range(VECTORIZE_ABOVE + 1))
    for _ in range(3):
        assert load_table.running(fleet) == list(range(VECTORIZE_ABOVE + 1))


def test_who_is_no_candidate_any_more_is_let_go() -> None:
    load_table, fleet = LoadTable(), instances(VECTORIZE_ABOVE + 2)
    for _ in range(2):
        load_table.running(fleet)
    rest = fleet[1:]
    for _ in range(2):
        load_table.running(rest)
    assert fleet[0].load_table is None
    fleet[0].acquire(5)
    check(load_table, rest)


@pytest.mark.parametrize("name", ["request_num", "process_tokens", "cache_aware", "fd_remote_metrics_score"])
def test_policies_of_large_fleets_choose_one_of_the_best_by_the_instances_own_counts(name: str) -> None:
    rng = random.Random(3)
    environment = Environment(lambda: 0.0, rng, load_table=LoadTable())
    policy, fleet = make_policy(name, environment), instances(100)
    for _ in range(2):
        environment.load_table.running(fleet)
    for number in range(150):
        request = FakeRequest(f"{number % 7}" * 100)
        explanation = policy.explain(request, list(fleet))
        chosen = policy.choose(request, fleet)
        assert chosen.url in {fleet[place].url for place in explanation.best}
        chosen.acquire(number % 13)  # type: ignore[attr-defined]
        if number > 50:
            rng.choice([each for each in fleet if each.running]).release()
    assert fleet[0].load_table is environment.load_table
