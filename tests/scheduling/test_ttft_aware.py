"""``ttft_aware``: worked examples of its formula, what it learns, and that its counts come back to nothing."""

from __future__ import annotations

import random
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.config.loading import SchedulerConfig
from fd_router.scheduling.environment import Choice, Environment
from fd_router.scheduling.policies import make_index, make_policy
from fd_router.scheduling.reservation import Reservation
from fd_router.scheduling.scheduler import Scheduler
from fd_router.scheduling.ttft.policy import Placed, TtftAwarePolicy
from tests.support.fake_transport import FakeLoop
from tests.support.scheduling_fakes import AskedGroup, FakeCandidate, FakeRequest

SPEED = 1000.0  # tokens/s, of all instances until they tell otherwise
TOKEN = 4  # characters, until told otherwise


def text(tokens: int, name: str = "a") -> FakeRequest:
    return FakeRequest(name * (tokens * TOKEN))


class Log:
    """What was said of the predictions."""

    def __init__(self) -> None:
        self.first_tokens: list[tuple[float, float]] = []
        self.cached: list[tuple[int, int]] = []

    def first_token(self, predicted: float, observed: float) -> None:
        self.first_tokens.append((pytest.approx(predicted), pytest.approx(observed)))

    def held(self, priority: str, seconds: float) -> None:
        pass

    def cached_tokens(self, predicted: int, told: int) -> None:
        self.cached.append((predicted, told))


class Bench:
    """A policy, a fleet, and a clock in the hand."""

    def __init__(
        self, instances: int = 2, *, role: str = "mixed", seed: int = 1, waits: bool = False, **options: Any
    ) -> None:
        settings = {
            "ttft_prefill_tokens_per_sec": SPEED,
            "ttft_recompute_weight": 2.0,
            "ttft_decode_weight_ms": 0.0,
            "cache_block_size": 4,
        }
        self.now = 100.0
        self.loop = FakeLoop()
        self.log = Log()
        self.choices: list[Choice] = []
        config = SchedulerConfig(**{**settings, **options})
        self.index = make_index(lambda: self.now, config)
        environment = Environment(
            lambda: self.now,
            random.Random(seed),
            lambda _, choice: self.choices.append(choice),
            role=role,
            predictions=self.log,
            index=self.index,
            later=self.loop.call_later if waits else None,  # whose time comes with ``loop.advance``
        )
        policy = make_policy("ttft_aware", environment, config)
        assert isinstance(policy, TtftAwarePolicy)
        self.policy = policy
        self.fleet = [FakeCandidate(number) for number in range(1, instances + 1)]
        self.scheduler = Scheduler(AskedGroup(lambda: self.fleet), policy, lambda: "")

    def send(self, request: FakeRequest, to: int | None = None) -> Reservation[FakeCandidate]:
        """Let the policy choose, among all or only ``to``."""
        others = [] if to is None else [each.key for number, each in enumerate(self.fleet, 1) if number != to]
        return self.scheduler.select(request, others)

    def prefer(self, request: FakeRequest) -> int:
        """Return the number of the instance that would be chosen for certain."""
        explanation = self.policy.explain(request, self.fleet)
        (place,) = explanation.best
        return place + 1

    def scores(self, request: FakeRequest) -> list[float]:
        return [standing.score or 0.0 for standing in self.policy.explain(request, self.fleet).standings]

    def queues(self) -> list[float]:
        return [standing.load or 0.0 for standing in self.policy.explain(text(0), self.fleet).standings]

    def serve(self, request: FakeRequest, secs: float, to: int | None = None, cached: int | None = None) -> None:
        """Let a request's first token come after ``secs``, and its end at once."""
        decision = self.send(request, to)
        self.now += secs
        decision.first_token()
        if cached is not None:
            decision.usage(len(request.prompt) // TOKEN, cached)
        decision.release()


def test_a_request_under_way_keeps_no_names_of_its_prompts_blocks() -> None:
    bench = Bench()
    decision = bench.send(text(100_000))
    assert isinstance(decision.tracker, Placed)
    assert not hasattr(decision.tracker.prompt, "match")  # 50 KB, for as long as it takes


class TestFormula:
    def test_the_shorter_queue_wins(self) -> None:
        bench = Bench()
        bench.send(text(3000), to=1)
        bench.send(text(1000, "b"), to=2)
        assert bench.queues() == pytest.approx([3.0, 1.0])
        assert bench.scores(text(500, "c")) == pytest.approx(
            [3 + 0.55, 1 + 0.55]
        )  # one runs at each, and would be slowed
        assert bench.prefer(text(500, "c")) == 2

    def test_what_is_cached_elsewhere_and_computed_again_counts_twice_more(self) -> None:
        bench = Bench()
        bench.serve(text(1000), 1.0, to=1)
        bench.send(text(2900, "b"), to=1)
        bench.send(text(100, "c"), to=2)
        # 1: 2.9 s queued and nothing to do (but for the last token); 2: 0.1 s queued, 1.1 s to do + 2 × 1 s
        assert bench.scores(text(1000)) == pytest.approx([2.9, 3.2], abs=0.01)
        bench.send(text(500, "d"), to=1)
        assert bench.scores(text(1000)) == pytest.approx([3.4, 3.2], abs=0.01)
        assert bench.prefer(text(1000)) == 2  # so a hot prefix comes to a second instance

    def test_the_fewer_are_busy_the_less_it_counts(self) -> None:
        bench = Bench(4)
        bench.serve(text(1000), 1.0, to=1)
        assert bench.scores(text(1000)) == pytest.approx([0.0, 1.0, 1.0, 1.0], abs=0.01)
        bench.send(text(1100, "b"), to=1)
        extra = 2 / 4**2
        assert bench.scores(text(1000)) == pytest.approx([1.1, 1 + extra, 1 + extra, 1 + extra], abs=0.01)
        bench.send(text(100, "c"), to=2)
        extra = 2 * (2 / 4) ** 2
        assert bench.scores(text(1000)) == pytest.approx([1.1, 1.2 + extra, 1 + extra, 1 + extra], abs=0.01)

    def test_the_weight_is_an_option(self) -> None:
        bench = Bench(ttft_recompute_weight=0.0)
        bench.serve(text(1000), 1.0, to=1)
        bench.send(text(1100, "b"), to=1)
        bench.send(text(100, "c"), to=2)
        assert bench.scores(text(1000)) == pytest.approx([1.1, 0.1 + 1.1], abs=0.01)

    def test_running_requests_count_a_little(self) -> None:
        bench = Bench(ttft_decode_weight_ms=5.0)
        decision = bench.send(text(100), to=1)
        bench.now += 0.1
        decision.first_token()
        assert bench.scores(text(100, "b")) == pytest.approx(
            [0.115, 0.1]
        )  # 5 ms, and its own decode is slowed by a tenth of 0.1 s
        decision.release()
        assert bench.scores(text(100, "b")) == pytest.approx([0.1, 0.1])

    def test_a_part_of_the_prompt_may_be_cached(self) -> None:
        bench = Bench()
        bench.serve(text(1000), 1.0, to=1)
        longer = FakeRequest("a" * 4000 + "b" * 2000)
        assert bench.scores(longer) == pytest.approx([0.5, 1.5])  # nobody is busy, so the weight is 0
        standings = bench.policy.explain(longer, bench.fleet).standings
        assert [standing.hit for standing in standings] == [66, 0]

    def test_the_time_spent_on_the_prompt_in_progress_is_credited(self) -> None:
        bench = Bench()
        bench.send(text(2000), to=1)
        bench.send(text(1000, "b"), to=1)
        bench.now += 1.5
        assert bench.queues()[0] == pytest.approx(1.5)
        bench.now += 1.5  # it should have been done a second ago, but its first token hasn't come
        assert bench.queues()[0] == pytest.approx(1.0)
        bench.now += 10  # who knows when it will: in as many seconds as it is late
        assert 1.0 + 5 < bench.queues()[0] < 1.0 + 11

    def test_the_first_token_sets_the_queue_right(self) -> None:
        bench = Bench()
        slow = bench.send(text(2000), to=1)
        bench.send(text(1000, "b"), to=1)
        bench.now += 1.9
        slow.first_token()
        speed = bench.policy.backlog_of(bench.fleet[0].url).speed.tokens_per_sec
        assert speed == pytest.approx(1.05 * SPEED)
        assert bench.queues()[0] == pytest.approx(1000 / speed)  # by what it has told of the speed
        bench.send(text(500, "c"), to=1)
        assert bench.queues()[0] == pytest.approx(1500 / speed)

    def test_a_tokenizers_tokens_are_taken_as_they_are(self) -> None:
        bench = Bench()
        request = FakeRequest("x" * 10)
        request.token_ids = array("I", range(400))
        assert bench.scores(request) == pytest.approx([0.4, 0.4])


class TestWaiting:
    """At 1,000 tokens/s an instance gets one prompt at a time, if they aren't very short."""

    def bench(self, instances: int) -> Bench:
        bench = Bench(instances, waits=True, ttft_feed_tokens=100)
        for number in range(1, instances + 1):  # until an instance's speed is known nobody waits for it
            bench.serve(text(1000, "z"), 1.0, to=number)
        bench.log.first_tokens.clear()
        return bench

    def test_what_an_instance_can_not_begin_with_waits_and_the_shortest_goes_first(self) -> None:
        bench, sent = self.bench(1), []
        decisions = {name: bench.send(text(tokens, name)) for name, tokens in {"a": 3000, "b": 2000, "c": 500}.items()}
        waits = {name: decision.hold(lambda name=name: sent.append(name)) for name, decision in decisions.items()}
        assert waits == {"a": False, "b": True, "c": True}
        for name in "acb":
            bench.now += 1.0
            decisions[name].first_token()
            decisions[name].release()
        assert sent == ["c", "b"]
        assert [told[0] for told in bench.log.first_tokens] == [3.0, 3.5, 5.0]

    def test_a_new_prompt_waits_for_shorter_ones_and_holds_longer_ones_up(self) -> None:
        bench = self.bench(2)
        bench.send(text(4000), to=1)
        bench.send(text(5000, "b"), to=2)
        for name, tokens in {"c": 3000, "d": 200}.items():
            bench.send(text(tokens, name), to=1)
        # 1: 4 s sent, 0.2 s shorter, 1 s to do, by which the one of 3 s comes later; 2: 5 s sent, 1 s to do.
        # Three run at 1, one at 2, each of which is slowed for a tenth of this prompt's time.
        assert bench.scores(text(1000, "e")) == pytest.approx([4.2 + 1.3 + 1, 5 + 1.1])
        assert bench.queues() == pytest.approx([4.0, 5.0])  # nothing that waits is shorter than that
        bench.send(text(3000, "f"), to=1)
        assert bench.scores(text(100, "g")) == pytest.approx([4 + 0.14 + 3 * 0.1, 5 + 0.11])

    def test_what_is_cached_there_makes_a_prompt_short(self) -> None:
        bench = self.bench(1)
        bench.serve(text(2000), 2.0)
        decisions = {
            "long": bench.send(text(4000, "b")),
            "unknown": bench.send(text(1000, "c")),
            "known": bench.send(text(2400)),
        }
        assert bench.scores(text(2500)) == pytest.approx([4.0 + 0.13 + 2 * 0.1], abs=0.01)
        sent = [name for name, decision in decisions.items() if not decision.hold(lambda: sent.append("known"))]
        assert sent == ["long"]
        bench.now += 4
        decisions["long"].first_token()
        assert sent == ["long", "known"]

    def test_one_that_went_before_its_turn_says_nothing_of_the_cache(self) -> None:
        bench = self.bench(1)
        first, second, third = bench.send(text(1000)), bench.send(text(5000, "b")), bench.send(text(5100, "b"))
        first.first_token()
        assert third.tracker.pending.is_reordered  # the rest of what is thought to be cached: 100 tokens
        third.usage(5100, 0)
        assert bench.index.blocks_of(bench.fleet[0].url) == 1000 + 1000 + 5100
        second.release()

    def test_those_that_wait_for_an_instance_that_is_gone_are_told(self) -> None:
        bench, sent = self.bench(1), []
        for name in "abc":
            bench.send(text(1000, name)).hold(lambda name=name: sent.append(name))
        bench.policy.on_instance_unavailable(bench.fleet[0].url)
        bench.policy.on_instance_unavailable("http://10.9.9.9:1")
        assert sent == ["b", "c"]

    def test_nothing_waits_when_told_so_or_without_timers(self) -> None:
        for bench in (Bench(1, waits=True, ttft_feed_tokens=0), Bench(1)):
            bench.serve(text(1000, "z"), 1.0)
            assert not any(bench.send(text(1000, name)).hold(list) for name in "abc")


class TestSlots:
    """One instance of three slots, all of which are taken; a fourth request waits there for two seconds."""

    def bench(self) -> tuple[Bench, list[Reservation[FakeCandidate]]]:
        bench, decisions = Bench(1, waits=True, ttft_feed_tokens=10_000), []
        bench.serve(text(1000, "z"), 1.0)
        for name in "abc":
            decisions.append(bench.send(text(100, name)))
            bench.now += 0.1
            decisions[-1].first_token()
        decisions.append(bench.send(text(100, "d")))
        bench.now += 2.0
        bench.scores(text(100, "e"))  # whoever looks finds the first token late
        bench.log.first_tokens.clear()
        return bench, decisions

    @pytest.mark.parametrize("is_read_first", [True, False])
    def test_an_end_goes_before_a_first_token_of_the_same_step(self, is_read_first: bool) -> None:
        bench, decisions = self.bench()
        speed = bench.policy._fleet.tokens_per_sec
        steps = [decisions[3].first_token, decisions[0].release]
        for step in steps if is_read_first else reversed(steps):
            step()
        bench.loop.advance(0.002)
        slots = bench.policy.backlog_of(bench.fleet[0].url).slots
        assert (slots.limit, slots.decoding) == (3, 3)
        assert bench.policy._fleet.tokens_per_sec == speed  # of which a wait for a slot tells nothing
        assert len(bench.log.first_tokens) == 1

    def test_a_limit_that_is_known_does_not_creep_up_by_first_tokens_that_are_read_before_ends(self) -> None:
        bench, decisions = self.bench()
        for at in range(5):
            if at:
                decisions.append(bench.send(text(100, "fghi"[at - 1])))
                bench.now += 0.1
            decisions[at + 3].first_token()
            decisions[at].release()
            bench.loop.advance(0.002)
        assert bench.policy.backlog_of(bench.fleet[0].url).slots.limit == 3

    @pytest.mark.parametrize("is_told", [True, False])
    def test_a_first_token_is_heard_of_before_what_else_is_told_of_the_request(self, is_told: bool) -> None:
        bench, decisions = self.bench()
        decisions[3].first_token()
        assert not bench.log.first_tokens
        if is_told:
            decisions[3].usage(100, 0)
            assert len(bench.log.first_tokens) == 1
        decisions[3].release()
        assert len(bench.log.first_tokens) == 1
        bench.loop.advance(1.0)
        assert len(bench.log.first_tokens) == 1
        assert bench.policy.backlog_of(bench.fleet[0].url).slots.decoding == 3

    def test_what_one_shows_keeps_requests_from_others_that_are_as_full(self) -> None:
        bench, kept = Bench(2, waits=True, ttft_feed_tokens=10_000), []
        for number in (1, 2):
            decision = bench.send(text(1000, "z"), to=number)
            bench.now += 1.0
            decision.first_token()
            bench.now += 8.0  # that it decodes
            decision.release()
        for number, names in ((1, "abcd"), (2, "efgh")):
            for name in names:
                kept.append(bench.send(text(100, name), to=number))
                bench.now += 0.1
                kept[-1].first_token()
        kept.append(bench.send(text(100, "i"), to=1))
        assert bench.scores(text(10, "j"))[1] < 0.1
        bench.now += 2.0
        assert bench.scores(text(10, "j"))[1] > 0.1  # nobody has waited there


class TestTies:
    def test_equals_are_chosen_by_chance_and_the_same_seed_chooses_the_same(self) -> None:
        def chosen(seed: int) -> list[str]:
            bench = Bench(8, seed=seed)
            urls = []
            for number in range(40):
                decision = bench.send(text(10, chr(65 + number)))
                urls.append(decision.instance.url)
                bench.now += 0.01
                decision.first_token()
                decision.release()
            return urls

        assert chosen(1) == chosen(1) != chosen(2)
        assert len(set(chosen(1))) == 8

    def test_of_equals_the_one_with_the_fewest_running_requests(self) -> None:
        bench = Bench(3)
        for number, to in enumerate((1, 1, 2, 3, 3)):
            decision = bench.send(text(10, chr(65 + number)), to)
            bench.now += 0.01
            decision.first_token()
        assert bench.send(text(10, "z")).instance is bench.fleet[1]

    def test_a_hair_decides_nothing(self) -> None:
        bench = Bench(2)
        bench.send(text(10), to=1)
        assert {bench.send(text(10_000, name)).instance.url for name in "bc"} == {each.url for each in bench.fleet}


class TestLearning:
    def test_the_speed_of_each_instance(self) -> None:
        bench = Bench(2)
        for number in range(60):
            bench.serve(text(1000, chr(65 + number)), 0.5, to=1)
            bench.serve(text(1000, chr(65 + number)), 2.0, to=2)
        assert bench.scores(text(1000, "\u1234"))[0] == pytest.approx(0.5, rel=0.1)
        assert bench.scores(text(1000, "\u1234"))[1] == pytest.approx(2.0, rel=0.1)

    def test_one_that_has_not_shown_its_speed_is_taken_to_be_as_fast_as_the_others(self) -> None:
        bench = Bench(1)
        for number in range(60):
            bench.serve(text(1000, chr(65 + number)), 0.1)
        bench.fleet = [*bench.fleet, FakeCandidate(2)]
        known, new = bench.scores(text(1000, "\u1234"))
        assert known == pytest.approx(0.1, rel=0.1)
        assert new == pytest.approx(0.1, rel=0.4)

    def test_a_first_request_that_takes_a_minute_does_not_condemn_its_instance(self) -> None:
        bench = Bench(2)
        bench.serve(text(1000), 60.0, to=1)
        assert bench.scores(text(1000, "b"))[0] < 4.0

    def test_waiting_is_not_prefilling(self) -> None:
        bench = Bench(1)
        decisions = [bench.send(text(1000, chr(65 + number))) for number in range(10)]
        for decision in decisions:
            bench.now += 1.0
            decision.first_token()
            decision.release()
        assert bench.scores(text(1000, "z")) == pytest.approx([1.0])
        assert bench.log.first_tokens[-1] == (10.0, 10.0)

    def test_what_was_cached_there_makes_nobody_look_fast(self) -> None:
        bench = Bench(1)
        for number in range(30):
            bench.serve(text(1000, chr(65 + number)), 0.01, cached=990)
        assert bench.scores(text(1000, "z")) == pytest.approx([1.0], rel=0.2)

    def test_tokens_per_character(self) -> None:
        bench = Bench(1)
        for number in range(200):
            decision = bench.send(FakeRequest(chr(0x4E00 + number) * 10_000))
            decision.usage(6_000, 0)
            decision.release()
        tokens = bench.policy.explain(FakeRequest("\u6000" * 10_000), bench.fleet).standings[0].score
        assert tokens == pytest.approx(6.0, rel=0.05)

    def test_the_predictions_are_told(self) -> None:
        bench = Bench(1)
        bench.serve(text(1000), 1.5, cached=0)
        bench.serve(text(1000), 0.1, cached=896)
        assert bench.log.first_tokens[0] == (1.0, 1.5)
        assert bench.log.cached == [(0, 0), (999, 896)]


class TestCacheSizes:
    """An engine whose cache holds the ten prompts of 4,000 tokens used last, and forty prompts by chance."""

    HOLDS = 10

    def ask(self, bench: Bench, *, tells: bool, number: int = 400) -> None:
        rng, cache = random.Random(5), list[int]()
        for _ in range(number):
            name = rng.randrange(40)
            cached = 3999 if name in cache else 0
            cache = [name, *(each for each in cache if each != name)][: self.HOLDS]
            request = text(4000, chr(0x100 + name))
            bench.serve(request, (4000 - cached) / SPEED, cached=cached if tells else None)

    def size(self, bench: Bench) -> float:
        """Return what the index holds of the only instance, in prompts."""
        return bench.index.blocks_of(bench.fleet[0].url) / 4000

    @pytest.mark.parametrize("tells", [True, False])
    def test_they_are_learnt_from_the_usage_or_else_from_the_time(self, tells: bool) -> None:
        bench = Bench(1)
        self.ask(bench, tells=tells)
        assert self.size(bench) == pytest.approx(self.HOLDS, rel=0.25)
        assert bench.scores(text(1000, "z")) == pytest.approx([1.0], rel=0.25)  # the speed was not blamed

    def test_prompts_computed_in_one_step_are_no_misses(self) -> None:
        bench = Bench(1)
        shared = "s" * (2000 * TOKEN)
        bench.serve(FakeRequest(shared), 2.0)
        held = bench.index.blocks_of(bench.fleet[0].url)
        for step in range(6):  # ten prompts of 300 tokens behind the shared ones: ten times what one takes
            batch = [bench.send(FakeRequest(shared + chr(0x400 + step * 10 + n) * (300 * TOKEN))) for n in range(10)]
            bench.now += 3.0
            for each in batch:
                each.first_token()
            for each in batch:
                each.release()
        assert bench.index.blocks_of(bench.fleet[0].url) == held + 60 * 300
        assert bench.scores(text(1000, "z")) == pytest.approx([1.0], rel=0.02)  # nor did they take no time

    def test_one_that_was_configured_is_kept(self) -> None:
        bench = Bench(1, cache_instance_max_blocks=80_000)
        self.ask(bench, tells=True)
        assert self.size(bench) == 20

    def test_an_instance_that_comes_back_has_the_one_that_was_learnt(self) -> None:
        bench = Bench(1)
        self.ask(bench, tells=True)
        bench.index.remove(bench.fleet[0].url)
        for number in range(30):
            bench.send(text(4000, chr(0x300 + number))).release()
        assert self.size(bench) == pytest.approx(self.HOLDS, rel=0.25)

    def test_an_engine_without_a_cache(self) -> None:
        bench = Bench(1)
        for _ in range(200):
            bench.serve(text(4000), 4.0, cached=0)
        assert bench.scores(text(4000)) == pytest.approx(
            [4.0], rel=0.2
        )  # but for what a block of an engine may explain


class TestRoles:
    def test_a_prefill_instances_answer_is_its_first_token_streamed_or_not(self) -> None:
        bench = Bench(1, role="prefill")
        bench.serve(text(1000), 1.0)
        bench.policy.explain(text(1), bench.fleet)
        request = text(1000, "b")
        request.stream = False
        bench.send(request)
        bench.now += 60
        bench.send(text(1000, "c"))
        assert bench.queues()[0] > 1.0 + 50  # it will be heard of, so it is late

    def test_an_answer_that_is_no_stream_is_reckoned(self) -> None:
        bench = Bench(1)
        bench.serve(text(1000), 1.0)
        request = text(1000, "b")
        request.stream = False
        decision = bench.send(request)
        bench.now += 0.4
        assert bench.queues() == pytest.approx([0.6])
        bench.now += 10
        assert bench.queues() == [0.0]
        bench.send(text(1000, "c"))
        assert bench.queues() == pytest.approx([1.0])
        decision.release()
        assert bench.queues() == pytest.approx([1.0])

    def test_as_long_as_no_speed_is_known_it_counts_until_its_end(self) -> None:
        bench = Bench(1)
        for name in "ab":
            request = text(1000, name)
            request.stream = False
            decision = bench.send(request)
        bench.now += 1000
        assert bench.queues() == pytest.approx([1.0])
        decision.release()
        assert bench.queues() == [0.0]


class TestBookkeeping:
    def test_a_retry_is_counted_where_it_is(self) -> None:
        bench = Bench(2)
        first = bench.send(text(1000))
        first.release()
        second = bench.scheduler.select(text(1000), {first.instance.key})
        assert second.instance is not first.instance
        assert sorted(bench.queues()) == pytest.approx([0.0, 1.0])

    def test_the_choice_is_told(self) -> None:
        bench = Bench(2)
        bench.serve(text(1000), 1.0, to=2)
        bench.send(text(1000))
        choice = bench.choices[-1]
        assert (choice.strategy, choice.selected, choice.reason) == ("ttft_aware", bench.fleet[1].url, "")
        assert choice.hit_ratios == {bench.fleet[1].url: 99}

    def test_instances_that_are_gone_are_forgotten(self) -> None:
        bench = Bench(3)
        for number in range(1000):
            bench.fleet = [FakeCandidate(number), FakeCandidate(number + 1)]
            bench.send(text(10)).release()
        assert len(bench.policy._backlogs) < 80

    def test_one_of_a_thousand(self) -> None:
        bench = Bench(1000)
        warm = bench.send(text(100), to=500)
        bench.now += 0.1
        warm.first_token()
        assert bench.prefer(text(100)) == 500
        for number in range(300):  # a prefix that hundreds have
            bench.send(text(100), to=number + 1)
        bench.now += 1
        assert bench.send(text(100)).instance.key in {each.key for each in bench.fleet[:500]}

    def test_equal_prompts_need_no_cache_to_be_chosen_for(self) -> None:
        bench = Bench(2)
        for _ in range(4):
            bench.send(text(0))
        assert sorted(each.running for each in bench.fleet) == [2, 2]

    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.floats(0, 3)), max_size=60), st.randoms())
    def test_whatever_happens_nothing_is_left(self, steps: list[tuple[int, int, float]], rng: random.Random) -> None:
        bench = Bench(3)
        running: list[Reservation[FakeCandidate]] = []
        for what, which, secs in steps:
            bench.now += secs
            if what < 3:
                request = text(which * 300, chr(65 + which))
                request.stream = what < 2
                running.append(bench.send(request))
            elif running:
                decision = running[which % len(running)]
                if what == 3:
                    decision.first_token()
                if what == 4:
                    decision.usage(which * 300 or 1, which * 100)
                if what == 5:
                    decision.release()
            for queue, instance in zip(bench.queues(), bench.fleet, strict=True):
                assert queue >= 0
                backlog = bench.policy._backlogs[instance.url]
                assert backlog.running == instance.running
                assert backlog.tokens >= 0
        rng.shuffle(running)
        for decision in running:
            decision.first_token()
            decision.release()
            decision.release()
        assert [backlog.running for backlog in bench.policy._backlogs.values()] == [0] * len(bench.policy._backlogs)
        assert all(backlog.tokens == 0 for backlog in bench.policy._backlogs.values())
        if bench.policy._backlogs:
            assert bench.queues() == [0.0, 0.0, 0.0]

    def test_they_say_what_they_are(self) -> None:
        bench = Bench(1)
        bench.send(text(1000))
        placed = bench.policy.on_dispatch
        assert repr(bench.policy) == "<TtftAwarePolicy 1 instances, <PrefillSpeed 1000 tokens/s>>"
        assert repr(bench.policy._backlogs[bench.fleet[0].url]) == "<PrefillQueue of 1 prompts, 1000 tokens, 1 running>"
        bench.policy.choose(text(500), bench.fleet)
        assert isinstance(again := placed(text(500), bench.fleet[0]), Placed)
        assert repr(again) == "<Placed 1 tokens at http://10.0.0.1:8000>"


class TestFairness:
    @pytest.mark.parametrize("speed", [500, 5_000, 20_000, 200_000])
    def test_idle_equals_are_used_evenly_at_any_speed(self, speed: int) -> None:
        bench = Bench(4, ttft_decode_weight_ms=3.0, ttft_prefill_tokens_per_sec=10_000.0)
        jitter, counts = random.Random(speed), dict.fromkeys((each.url for each in bench.fleet), 0)
        for number in range(200):
            decision = bench.send(text(300 + number, chr(0x4E00 + number)))
            counts[decision.instance.url] += 1
            bench.now += decision.tracker.prompt.tokens / speed * jitter.uniform(0.9, 1.1) + 0.002
            decision.first_token()
            bench.now += 0.5
            decision.release()
        assert all(40 <= count <= 60 for count in counts.values()), counts

    def test_an_instance_that_is_twice_as_fast_is_found(self) -> None:
        bench = Bench(2)
        for number in range(40):
            decision = bench.send(text(1000, chr(0x4E00 + number)))
            bench.now += 0.2 if decision.instance is bench.fleet[1] else 0.4
            decision.first_token()
            decision.release()
        assert {bench.send(text(1000, chr(0x5E00 + number))).release() for number in range(3)} == {True}
        assert bench.prefer(text(1000, "z")) == 2

    def test_conversations_that_begin_alike_fill_all_caches_though_nobody_waits(self) -> None:
        bench = Bench(2, cache_instance_max_blocks=2000)
        system, served = "s" * 800, []
        for number in range(12):
            decision = bench.send(FakeRequest(system + chr(0x4E00 + number) * 400))
            served.append(decision.instance)
            decision.release()
        counts = [served.count(each) for each in bench.fleet]
        assert min(counts) >= 5, counts
        before = list(served)
        for number in range(12):  # what was said goes on where it was begun
            decision = bench.send(FakeRequest(system + chr(0x4E00 + number) * 800))
            assert decision.instance is before[number]
            decision.release()

    def test_caches_whose_sizes_nobody_knows_are_not_filled_for_their_own_sake(self) -> None:
        bench = Bench(2)
        served = set()
        for number in range(12):
            decision = bench.send(FakeRequest("s" * 800 + chr(0x4E00 + number) * 400))
            served.add(decision.instance.url)
            decision.release()
        assert len(served) == 1

    def test_of_equals_the_one_with_the_emptiest_cache(self) -> None:
        bench = Bench(3, cache_instance_max_blocks=2000)
        bench.send(text(1000), to=1).release()
        bench.send(text(500, "b"), to=2).release()
        for name in "cdef":
            decision = bench.send(text(200, name))
            decision.release()
            assert decision.instance is bench.fleet[2 if name in "cde" else 1], name

    def test_a_prompt_that_all_share_comes_to_all_instances(self) -> None:
        bench = Bench(4, ttft_decode_weight_ms=3.0)
        system, live = "s" * 4000, []
        for number in range(60):
            decision = bench.send(FakeRequest(system + chr(0x4E00 + number) * 200))
            bench.now += 0.1
            decision.first_token()
            live.append(decision)
            if len(live) > 20:
                live.pop(0).release()
        busy = [sum(decision.instance is each for decision in live) for each in bench.fleet]
        assert min(busy) >= 3, busy
