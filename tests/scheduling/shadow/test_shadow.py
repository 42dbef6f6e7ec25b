"""A shadow policy: it is asked for as many requests as it may cost, and nothing depends on what it says."""

from __future__ import annotations

import random

import pytest

from fd_router.config.loading import POLICIES, SchedulerConfig
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.policies import make_policy
from fd_router.scheduling.policies.least import RequestNumPolicy
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.prefix.index import PrefixIndex
from fd_router.scheduling.scheduler import Scheduler
from fd_router.scheduling.shadow.index_view import OwnIndex, SharedIndexView
from fd_router.scheduling.shadow.shadow_policy import ShadowPolicy
from fd_router.scheduling.shadow.watch import LOOKED_AT, UNCOUNTED, WATCHED, Watch
from tests.support.scheduling_fakes import AskedGroup, FakeCandidate, FakeRequest

TEXTS = [letter * 640 for letter in "abcdefgh"]


class Tally:
    def __init__(self) -> None:
        self.decisions: list[tuple[str, str]] = []
        self.seconds = 0.0

    def decided(self, chosen, wished) -> None:
        self.decisions.append((chosen.url, wished.url))

    def took(self, seconds: float) -> None:
        self.seconds = seconds


class Machine:
    """Time as the shadow's watch sees it: each look at the stop-watch takes a µs."""

    def __init__(self) -> None:
        self.cpu_secs = self.secs = 0.0

    def cpu(self) -> float:
        return self.cpu_secs

    def clock(self) -> float:
        self.secs += 1e-6
        return self.secs


def environment(index: PrefixIndex, seed: int = 1) -> Environment:
    return Environment(lambda: 0.0, random.Random(seed), index=index)


def shadowed(in_force: str, shadow: str, machine: Machine | None = None) -> tuple[ShadowPolicy, Tally]:
    machine, tally, index = machine or Machine(), Tally(), PrefixIndex(lambda: 0.0)
    policy = make_policy(in_force, environment(index), SchedulerConfig())
    has_index = bool(policy.needs)
    view = SharedIndexView(lambda: 0.0, index) if has_index else OwnIndex(lambda: 0.0)
    other = make_policy(shadow, environment(view, seed=2), SchedulerConfig())
    return ShadowPolicy(policy, other, shadow, view, Watch(machine.cpu, machine.clock), tally), tally


def serve(policy: Policy, number: int = 300, seed: int = 3) -> list[str]:
    """Let requests come and go; return where each went."""
    rng, candidates, running, went = random.Random(seed), [FakeCandidate(n) for n in range(4)], [], []
    scheduler = Scheduler(AskedGroup(lambda: candidates), policy, str)
    for _ in range(number):
        reservation = scheduler.select(FakeRequest(rng.choice(TEXTS)))
        went.append(reservation.instance.url)
        running.append(reservation)
        if len(running) > 6:
            one = running.pop(rng.randrange(len(running)))
            one.first_token()
            one.usage(640, 0)
            one.release()
    for one in running:
        one.release()
    return went


@pytest.mark.parametrize("shadow", POLICIES)
@pytest.mark.parametrize("in_force", ["request_num", "cache_aware", "ttft_aware"])
def test_requests_go_where_they_went_without_it(in_force: str, shadow: str) -> None:
    alone = make_policy(in_force, environment(PrefixIndex(lambda: 0.0)), SchedulerConfig())
    policy, tally = shadowed(in_force, shadow)
    assert serve(policy) == serve(alone)
    uncounted = UNCOUNTED if shadow == "ttft_aware" else 0
    assert len(tally.decisions) == 300 - uncounted
    assert tally.seconds > 0


def test_it_sees_where_prompts_are_before_the_other_one_sends_this_one_there() -> None:
    policy, tally = shadowed("round_robin", "cache_aware")
    candidates = [FakeCandidate(n) for n in range(3)]
    for _ in range(3):
        policy.choose(FakeRequest(TEXTS[0]), candidates)
    assert len({chosen for chosen, _ in tally.decisions}) == 3
    assert {wished for _, wished in tally.decisions[1:]} <= {chosen for chosen, _ in tally.decisions[:2]}


def test_it_rests_until_it_has_cost_no_more_than_its_share() -> None:
    machine = Machine()
    policy, tally = shadowed("request_num", "random", machine)
    candidates = [FakeCandidate(n) for n in range(3)]

    def ask(times: int) -> int:
        before = len(tally.decisions)
        for _ in range(times):
            policy.choose(FakeRequest(), candidates)
        return len(tally.decisions) - before

    assert ask(WATCHED + 1) == WATCHED
    assert ask(10 * LOOKED_AT) == 0
    machine.cpu_secs += tally.seconds * 50
    assert ask(2 * LOOKED_AT) == 0  # that would be a fiftieth
    machine.cpu_secs += tally.seconds * 60
    assert ask(2 * LOOKED_AT) > 0


def test_it_is_shown_beside_the_explanation_of_the_one_in_force() -> None:
    policy, _ = shadowed("request_num", "process_tokens")
    candidates = [FakeCandidate(1, running=1, tokens=9), FakeCandidate(2, running=2, tokens=3)]
    explanation = policy.explain(FakeRequest(), candidates)
    assert explanation.best == [0]
    assert explanation.shadow is not None
    assert (explanation.shadow.policy, explanation.shadow.explanation.best) == ("process_tokens", [1])


def test_an_instance_that_is_gone_is_forgotten_by_its_own_index() -> None:
    index = OwnIndex(lambda: 0.0)
    shadow = make_policy("cache_aware", environment(index), SchedulerConfig())
    in_force = RequestNumPolicy(environment(PrefixIndex(lambda: 0.0)))
    policy = ShadowPolicy(in_force, shadow, "cache_aware", index, Watch(lambda: 0.0, lambda: 0.0), Tally())
    candidate = FakeCandidate(1)
    policy.choose(FakeRequest(TEXTS[0]), [candidate])
    assert index.blocks_of(candidate.url) == 10
    policy.on_instance_unavailable(candidate.url)
    assert index.blocks_of(candidate.url) == 0
