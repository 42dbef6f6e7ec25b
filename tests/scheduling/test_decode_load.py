"""``ttft_aware`` as decode policy: the smallest batch."""

from __future__ import annotations

import random
from array import array

from fd_router.scheduling.candidate_group import UnlimitedGroup
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.policies import make_policy
from fd_router.scheduling.scheduler import Scheduler
from fd_router.scheduling.ttft.decode_load import DecodeLoadPolicy
from tests.support.scheduling_fakes import FakeRequest, fleet


def make() -> DecodeLoadPolicy:
    policy = make_policy("ttft_aware", Environment(lambda: 0.0, random.Random(1), role="decode"))
    assert isinstance(policy, DecodeLoadPolicy)
    return policy


def test_requests_and_their_prompts_count() -> None:
    policy, (one, two) = make(), fleet(0, 0)
    scheduler = Scheduler(UnlimitedGroup([one, two]), policy, lambda: "")
    long = scheduler.select(FakeRequest("x" * 16_000), {two.key})  # 4000 tokens + 1000
    assert [scheduler.select(FakeRequest("x" * 400)).instance for _ in range(4)] == [two] * 4  # 4 × (100 + 1000)
    explanation = policy.explain(FakeRequest(), [one, two])
    assert [standing.load for standing in explanation.standings] == [5000, 4400]
    assert explanation.best == [1]
    long.release()
    long.release()
    assert scheduler.select(FakeRequest()).instance is one


def test_a_tokenizers_tokens_count_as_they_are() -> None:
    policy, (one,) = make(), fleet(0)
    request = FakeRequest("x")
    request.token_ids = array("I", range(300))
    tracker = policy.on_dispatch(request, one)
    tracker.on_first_token()
    tracker.on_usage(300, 100)
    assert policy.explain(request, [one]).standings[0].load == 1300
    tracker.on_end()
    assert policy.explain(request, [one]).standings[0].load == 0


def test_equals_are_chosen_by_chance() -> None:
    policy, candidates = make(), fleet(0, 0, 0)
    assert {policy.choose(FakeRequest(), candidates).url for _ in range(50)} == {each.url for each in candidates}
