from __future__ import annotations

import pytest

from fd_router.errors import NoInstanceError, SaturatedError
from fd_router.scheduling.candidate_group import JointGroup, UnlimitedGroup
from fd_router.scheduling.pairs import PairScheduler, Side
from fd_router.scheduling.policies import make_policy
from fd_router.scheduling.reservation import Reservation
from fd_router.scheduling.scheduler import Scheduler
from tests.support.scheduling_fakes import (
    AskedGroup,
    Diary,
    FakeCandidate,
    FakeRequest,
    LearningPolicy,
    fleet,
    make_environment,
)


def make_scheduler(candidates: list[FakeCandidate], policy: str = "request_num") -> Scheduler[FakeCandidate]:
    return Scheduler(UnlimitedGroup(candidates), make_policy(policy, make_environment()), lambda: "none has registered")


def test_what_is_chosen_is_counted_at_once() -> None:
    candidates = fleet(0, 0, 0)
    scheduler = make_scheduler(candidates)
    for _ in range(9):
        scheduler.select(FakeRequest("abc"))
    assert [(candidate.running, candidate.tokens) for candidate in candidates] == [(3, 18)] * 3


def test_those_tried_are_left_out_as_long_as_another_is_left() -> None:
    one, two, three = candidates = fleet(0, 5, 9)
    scheduler = make_scheduler(candidates)
    assert scheduler.select(FakeRequest(), {one.key}).instance is two
    assert scheduler.select(FakeRequest(), (one.key, two.key)).instance is three
    assert scheduler.select(FakeRequest(), [one.key, two.key, three.key]).instance is one
    assert scheduler.select(FakeRequest(), {"10.0.0.77:1"}).instance is one


def test_when_all_were_tried_any_of_them_may_be_chosen_again() -> None:
    candidates = fleet(7, 5, 3)
    tried = {each.key for each in candidates}
    assert make_scheduler(candidates).select(FakeRequest(), tried).instance is candidates[2]


def test_unless_they_are_the_reserve() -> None:
    candidates = fleet(7, 5)
    group = UnlimitedGroup(candidates)
    group.is_reserve = True
    scheduler = Scheduler(group, make_policy("request_num", make_environment()), lambda: "none")
    tried = [candidates[0].key]
    assert scheduler.select(FakeRequest(), tried).instance is candidates[1]
    with pytest.raises(NoInstanceError):
        scheduler.select(FakeRequest(), [*tried, candidates[1].key])


def test_nothing_to_choose_from() -> None:
    with pytest.raises(NoInstanceError, match="Failed to select worker: none has registered") as raised:
        make_scheduler([]).select(FakeRequest(), {"10.0.0.1:8000"})
    assert (raised.value.status, raised.value.code) == (502, "no_instance")


def test_saturated_is_not_no_instance() -> None:
    candidates = fleet(0, 0)
    for candidate in candidates:
        candidate.is_saturated = True
    scheduler = Scheduler(
        AskedGroup(lambda: candidates), make_policy("request_num", make_environment()), lambda: "none"
    )
    with pytest.raises(SaturatedError, match="each instance that may be chosen has as many requests as it may have"):
        scheduler.select(FakeRequest())


def test_only_those_available_now_are_candidates() -> None:
    candidates = fleet(5, 0)
    scheduler = make_scheduler(candidates)
    candidates.pop()
    assert scheduler.select(FakeRequest()).instance is candidates[0]


class TestDecision:
    def test_both_parts_are_given_back_once(self) -> None:
        candidate = FakeCandidate(1)
        decision = Reservation(candidate, 10)
        assert (candidate.running, candidate.tokens) == (1, 10)
        assert repr(decision) == "<Reservation http://10.0.0.1:8000 tokens=10 held>"
        assert [decision.prefill_done(), decision.prefill_done()] == [True, False]
        assert (candidate.running, candidate.tokens) == (1, 0)
        assert [decision.release(), decision.release()] == [True, False]
        assert (candidate.running, candidate.tokens) == (0, 0)
        assert repr(decision) == "<Reservation http://10.0.0.1:8000 tokens=10 given back>"

    def test_no_tokens_are_none_to_give_back(self) -> None:
        assert not Reservation(FakeCandidate(1), 0).prefill_done()

    def test_a_request_that_is_given_back_leaves_no_tokens(self) -> None:
        candidate = FakeCandidate(1)
        decision = Reservation(candidate, 10)
        assert decision.release()
        assert (candidate.running, candidate.tokens) == (0, 0)
        assert not decision.prefill_done()
        assert (candidate.running, candidate.tokens) == (0, 0)


class TestLearners:
    """A policy that returns a tracker hears what becomes of its choices; one that doesn't is told nothing."""

    def test_it_is_told_of_what_was_taken_only(self) -> None:
        policy, (one, two) = LearningPolicy(), fleet(0, 0)
        scheduler = Scheduler(UnlimitedGroup([one, two]), policy, lambda: "")
        request = FakeRequest("abc")
        decision = scheduler.select(request, {one.key})
        assert [placed[:2] for placed in policy.placed] == [(request, two)]
        assert decision.wants_usage

    def test_both_sides_of_a_pair_are_told(self) -> None:
        sides = [(LearningPolicy(), fleet(0)) for _ in range(2)]
        prefill, decode = (Side(UnlimitedGroup(found), policy) for policy, found in sides)
        scheduler = PairScheduler(prefill, decode, lambda _prefill, _decode: True)
        for decision in scheduler.select(FakeRequest("abc")):
            decision.first_token()
            decision.release()
        assert [policy.heard for policy, _ in sides] == [[["first token", "end"]]] * 2

    def test_each_thing_is_told_once(self) -> None:
        diary = Diary()
        decision = Reservation(FakeCandidate(1), 10, diary)
        for _ in range(2):
            decision.first_token()
            decision.prefill_done()
            decision.usage(10, 4)
            decision.release()
        assert diary.heard == ["first token", (10, 4), "end"]
        assert not decision.wants_usage

    def test_after_the_end_only_the_usage_is_told(self) -> None:
        diary = Diary()
        decision = Reservation(FakeCandidate(1), 10, diary)
        decision.release()
        decision.first_token()
        decision.usage(10, 4)
        assert diary.heard == ["end", (10, 4)]

    def test_a_policy_that_does_not_learn_is_not_told(self) -> None:
        decision = make_scheduler(fleet(0)).select(FakeRequest("abc"))
        assert not decision.wants_usage
        decision.first_token()
        decision.usage(10, 4)
        assert decision.release()


class TestJointGroup:
    def test_the_candidates_of_all_groups_are_its_own(self) -> None:
        one, two, three = fleet(0, 0, 0)
        group = JointGroup((AskedGroup(lambda: [one]), AskedGroup(lambda: [two, three])))
        two.is_saturated = True
        assert list(group.candidates()) == [one, three]
        assert list(group.candidates({one.key})) == [three]
        assert list(group.available) == [one, two, three]
        assert not group.is_saturated

    def test_it_is_saturated_when_all_of_them_are(self) -> None:
        one, two = fleet(0, 0)
        group = JointGroup((AskedGroup(lambda: [one]), AskedGroup(lambda: [two])))
        one.is_saturated = two.is_saturated = True
        assert group.is_saturated
        assert not JointGroup(()).is_saturated
