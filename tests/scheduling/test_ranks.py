"""Ranks: an instance as several candidates, counted as one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.scheduling.candidate_group import UnlimitedGroup
from fd_router.scheduling.explanation import draw_with
from fd_router.scheduling.policies import make_policy
from fd_router.scheduling.ranks import Rank, RankReservation, Ranks
from fd_router.scheduling.reservation import Reservation
from fd_router.scheduling.scheduler import Scheduler
from tests.support.scheduling_fakes import FakeCandidate, FakeRequest, fleet, make_environment

Fleet = tuple[list[FakeCandidate], Ranks[FakeCandidate], Scheduler[FakeCandidate]]


def ranked(*sizes: int, policy: str = "cache_aware") -> Fleet:
    """Instances with so many ranks each, and their scheduler."""
    candidates = fleet(*(0 for _ in sizes))
    ranks = Ranks[FakeCandidate]()
    for candidate, size in zip(candidates, sizes, strict=True):
        ranks.set(candidate, size)
    chooser = make_policy(policy, make_environment())
    return candidates, ranks, Scheduler(UnlimitedGroup(candidates), chooser, str, expand=ranks.view())


def line(reservation: Reservation[FakeCandidate]) -> bytes:
    return reservation.line if isinstance(reservation, RankReservation) else b""


def test_a_prompt_goes_to_the_rank_that_has_it() -> None:
    _, _, scheduler = ranked(4, 4)
    prompt = "the same beginning of all " * 20
    first = scheduler.select(FakeRequest(prompt))
    first.release()
    for _ in range(10):
        again = scheduler.select(FakeRequest(prompt + "and more"))
        assert (again.instance, line(again)) == (first.instance, line(first))
        again.release()


def test_other_prompts_spread_over_all_ranks() -> None:
    _, _, scheduler = ranked(2, 1)
    held = [scheduler.select(FakeRequest(f"{number} " * 200)) for number in range(9)]
    where = sorted((each.instance.key, line(each)) for each in held)
    assert len(set(where)) == 3
    assert [where.count(each) for each in sorted(set(where))] == [3, 3, 3]


def test_the_instance_is_counted_and_the_rank_as_well() -> None:
    (instance,), ranks, scheduler = ranked(2)
    held = [scheduler.select(FakeRequest("x" * 100)) for _ in range(4)]
    assert (instance.running, instance.tokens) == (4, 800)
    assert sum(rank.running for rank in ranks.of(instance)) == 4
    assert held[0].prefill_done()
    assert not held[0].prefill_done()
    for each in held:
        assert each.release()
        assert not each.release()
    assert (instance.running, instance.tokens) == (0, 0)
    assert [(rank.running, rank.tokens) for rank in ranks.of(instance)] == [(0, 0), (0, 0)]


@given(st.lists(st.tuples(st.sampled_from(["select", "prefill", "release"]), st.integers(0, 9)), max_size=40))
def test_counts_of_ranks_add_up_to_the_instances(steps: list[tuple[str, int]]) -> None:
    candidates, ranks, scheduler = ranked(3, 2)
    held: list[Reservation[FakeCandidate]] = []
    for step, number in steps:
        if step == "select":
            held.append(scheduler.select(FakeRequest("y" * number)))
        elif held:
            each = held[number % len(held)]
            each.prefill_done() if step == "prefill" else each.release()
    for candidate in candidates:
        of = ranks.of(candidate)
        assert (sum(rank.running for rank in of), sum(rank.tokens for rank in of)) == (
            candidate.running,
            candidate.tokens,
        )


def test_where_there_are_none_the_candidates_are_what_they_were() -> None:
    candidates = tuple(fleet(0, 0))
    ranks = Ranks[FakeCandidate]()
    assert ranks.view()(candidates) is candidates
    assert not ranks.set(candidates[0], 1)
    assert ranks.view()(candidates) is candidates


def test_the_same_candidates_give_the_same_object_until_ranks_change() -> None:
    candidates, ranks, _ = ranked(2, 1)
    view, asked = ranks.view(), tuple(candidates)
    found = view(asked)
    assert [each.url for each in found] == [f"{asked[0].url}#rank0", f"{asked[0].url}#rank1", asked[1].url]
    assert view(asked) is found
    assert ranks.set(asked[1], 2)
    assert len(view(asked)) == 4
    ranks.forget(asked[0])
    assert len(view(asked)) == 3


def test_the_ranks_of_an_instance_that_was_replaced_arent_its_successors() -> None:
    (instance,), ranks, _ = ranked(2)
    other = FakeCandidate(int(instance.key.split(".")[3].split(":")[0]))
    assert other.key == instance.key
    assert ranks.of(other) == ()
    assert ranks.names(other) == (other.url,)


def test_all_ranks_of_an_instance_that_was_tried_are_left_out() -> None:
    (one, two), _, scheduler = ranked(2, 2)
    assert {scheduler.select(FakeRequest(str(n)), {one.key}).instance.key for n in range(6)} == {two.key}


@pytest.mark.parametrize(("limit", "share"), [(0, 0), (1, 1), (8, 4), (9, 5)])
def test_its_limit_is_a_share_of_the_instances(limit: int, share: int) -> None:
    instance = FakeCandidate(1)
    instance.limit = limit
    assert Rank(instance, 0, 2).limit == share


def test_an_explanation_names_ranks() -> None:
    _, _, scheduler = ranked(2)
    (verdict,) = scheduler.explain(FakeRequest("z" * 100), draw_with(make_environment().random))
    assert [standing.candidate.url[-6:] for standing in verdict.explanation.standings] == ["#rank0", "#rank1"]
