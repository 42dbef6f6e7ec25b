"""Scores of ``ttft_aware``: columns that are kept up give what its formula gives for each candidate anew."""

from __future__ import annotations

import random

import pytest

from fd_router.config.loading import SchedulerConfig
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.policies import make_policy
from fd_router.scheduling.reservation import Reservation
from fd_router.scheduling.scheduler import Scheduler
from fd_router.scheduling.ttft.next_step import STEP
from fd_router.scheduling.ttft.policy import TtftAwarePolicy
from fd_router.scheduling.ttft.prefill_queue import PrefillQueue
from fd_router.scheduling.ttft.rent import Rent
from tests.support.scheduling_fakes import AskedGroup, FakeCandidate, FakeRequest

OPTIONS = SchedulerConfig(
    ttft_prefill_tokens_per_sec=5000.0, ttft_recompute_weight=1.5, ttft_decode_weight_ms=3.0, cache_block_size=16
)


class RentBook(Rent):
    """Remembers each rent, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.crowding: list[float] = []

    def use(self, key: bytes, instances: int, crowding: float, room: float = 0.0, *, is_new: bool) -> None:
        self.crowding.append(crowding)


class Fleet:
    """Instances at work, some of them late, full, or used by other routers."""

    def __init__(self, size: int, seed: int) -> None:
        self.now = 100.0
        self.rng = random.Random(seed)
        environment = Environment(lambda: self.now, random.Random(seed))
        policy = make_policy("ttft_aware", environment, OPTIONS)
        assert isinstance(policy, TtftAwarePolicy)
        self.policy = policy
        self.candidates = [FakeCandidate(number) for number in range(1, size + 1)]
        self.scheduler = Scheduler(AskedGroup(lambda: self.candidates), policy, str)
        self.running: list[Reservation[FakeCandidate]] = []

    def text(self, characters: int) -> FakeRequest:
        return FakeRequest("".join(self.rng.choices("abcdefgh", k=characters)))

    def step(self) -> None:
        rng = self.rng
        what = rng.random()
        if what < 0.5 or not self.running:
            self.running.append(self.scheduler.select(self.text(rng.choice([80, 2_000, 20_000]))))
        elif what < 0.8:
            rng.choice(self.running).first_token()
        elif what < 0.97:
            self.running.pop(rng.randrange(len(self.running))).release()
        else:
            queue = self.queue(rng.choice(self.candidates))
            queue.count_elsewhere(rng.choice([0.0, 5000.0, 8000.0]), rng.randrange(4))
        self.now += rng.expovariate(5 * len(self.candidates))

    def queue(self, candidate: FakeCandidate) -> PrefillQueue:
        return self.policy.backlog_of(candidate.url)

    def rent(self, request: FakeRequest, candidate: FakeCandidate) -> float:
        """Return the rent that the request pays for the cache of a candidate."""
        book = RentBook()
        scoring = self.policy._score(self.policy._measure(request), self.candidates, self.now)
        scoring.settle(self.candidates.index(candidate), book)
        return book.crowding[-1]

    def wait(self, queue: PrefillQueue) -> float:
        """Return the seconds of what is queued, without what is late."""
        elsewhere = queue.others / queue.speed.tokens_per_sec
        return max(queue.until - self.now, queue.behind) + elsewhere

    def busy(self, tokens: float) -> float:
        """Return the share of the candidates with a queue that matters to a prompt of so many tokens."""
        matters = tokens / 16 / self.policy._fleet.tokens_per_sec
        waits = [self.wait(self.queue(each)) for each in self.candidates]
        return sum(min(1.0, wait / matters) for wait in waits) / len(waits)

    def score(self, candidate: FakeCandidate, tokens: float, cached: float, most: float, busy: float = 0.0) -> float:
        """Return the score by the formula in the policy's documentation."""
        queue, fleet = self.queue(candidate), self.policy._fleet.tokens_per_sec
        late, limit = max(0.0, self.now - queue.due), queue.slots.limit
        slot = max(0.0, queue.running + 1 - limit) * queue.slots.residence / limit
        running = queue.running + queue.running_elsewhere
        own = (tokens - cached) / queue.speed.tokens_per_sec
        held_up = queue._next_step.held_up if tokens <= STEP else 0.0  # to whom it costs all of its time
        recomputed = (most - cached) / fleet
        return (
            max(self.wait(queue) + late, slot)
            + own * (1 + running / 10 + held_up * 0.9)
            + 1.5 * busy**2 * recomputed
            + 0.003 * running
        )


@pytest.mark.parametrize("size", [1, 3, 8, 70])
@pytest.mark.parametrize("seed", [1, 2])
def test_they_are_those_of_the_formula(size: int, seed: int) -> None:
    fleet = Fleet(size, seed)
    for number in range(300):
        fleet.step()
        if number % 30:
            continue
        for each in fleet.candidates:
            fleet.queue(each).publish()  # the fleet's speed and slots show only when something happens there
        for tokens in (400, STEP + 8):
            explanation = fleet.policy.explain(fleet.text(4 * tokens), fleet.candidates)
            expected = [fleet.score(each, tokens, 0.0, 0.0) for each in fleet.candidates]
            assert [standing.score for standing in explanation.standings] == pytest.approx(expected)
            near = 0.02 * tokens / fleet.policy._fleet.tokens_per_sec
            assert explanation.best == [place for place, score in enumerate(expected) if score <= min(expected) + near]


@pytest.mark.parametrize("size", [3, 70])
def test_what_is_cached_and_what_would_be_computed_again_count(size: int) -> None:
    fleet = Fleet(size, 3)
    for _ in range(100):
        fleet.step()
    known = fleet.text(1_600)
    reservation = fleet.scheduler.select(known)
    for each in fleet.candidates:
        fleet.queue(each).publish()
    scores = [standing.score for standing in fleet.policy.explain(known, fleet.candidates).standings]
    for candidate, score in zip(fleet.candidates, scores, strict=True):
        cached = 399.0 if candidate is reservation.instance else 0.0
        assert score == pytest.approx(fleet.score(candidate, 400.0, cached, 399.0, fleet.busy(400.0)))


def test_rent_is_what_runs_there_and_the_wait_and_less_where_others_wait_too() -> None:
    fleet = Fleet(2, 4)
    known = fleet.text(4_000)  # 1,000 tokens: a queue matters that takes a sixteenth of their 0.2 s, or part of that
    reservation = fleet.scheduler.select(known)
    holder, other = reservation.instance, next(each for each in fleet.candidates if each is not reservation.instance)
    assert fleet.rent(known, holder) == pytest.approx((0.008 + 0.2) / 2)  # half of the fleet has nothing to do
    queued = fleet.queue(other).add(1_000, fleet.now, is_heard=True)
    assert fleet.rent(known, holder) == 0.0  # both are busy, and as much
    fleet.queue(other).end(queued, fleet.now)
    reservation.first_token()
    assert fleet.rent(known, holder) == pytest.approx(0.008)  # nobody has a queue, one request more runs there
    reservation.release()
    assert fleet.rent(known, holder) == 0.0
