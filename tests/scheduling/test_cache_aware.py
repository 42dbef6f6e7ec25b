"""The formula of ``cache_aware`` on worked examples, its fallback, what it remembers; in large fleets too."""

from __future__ import annotations

import random
from array import array
from typing import Any

import pytest

from fd_router.config.loading import SchedulerConfig
from fd_router.scheduling.environment import Choice, Environment
from fd_router.scheduling.loads import ReportedLoads
from fd_router.scheduling.policies import make_index, make_policy
from fd_router.scheduling.prefix.block_hashes import BlockHasher
from tests.support.scheduling_fakes import FakeCandidate, FakeRequest

BLOCK = 4


class Bench:
    """A policy, its index, its fleet, and what it told of its choices. Blocks have four characters."""

    def __init__(self, *counts: tuple[int, int], name: str = "cache_aware", seed: int = 1, **options: Any) -> None:
        self.now = 0.0
        self.told: list[Choice] = []
        self.options = SchedulerConfig(cache_block_size=BLOCK, **options)
        self.index = make_index(lambda: self.now, self.options)
        self.figures = ReportedLoads(lambda: self.now, self.options.load_max_age_secs)
        environment = Environment(
            lambda: self.now,
            random.Random(seed),
            lambda _, choice: self.told.append(choice),
            index=self.index,
            reported_loads=self.figures,
        )
        self.policy = make_policy(name, environment, self.options)
        self.fleet = tuple(FakeCandidate(number, *pair) for number, pair in enumerate(counts, 1))

    def know(self, number: int, prompt: str) -> None:
        """Let candidate ``number`` have been sent ``prompt``."""
        self.index.insert(self.index.match(BlockHasher(BLOCK).of_text(prompt)), self.fleet[number - 1].url)

    def choose(self, prompt: str) -> int:
        """Return the number of the candidate that is chosen."""
        return 1 + [c.url for c in self.fleet].index(self.policy.choose(FakeRequest(prompt), self.fleet).url)

    @property
    def hits(self) -> dict[int, int]:
        """The hit% of the last choice, by number."""
        numbers = {candidate.url: number for number, candidate in enumerate(self.fleet, 1)}
        return {numbers[url]: percent for url, percent in self.told[-1].hit_ratios.items()}


def test_the_longest_known_prefix_wins_when_loads_are_equal() -> None:
    bench = Bench((2, 0), (2, 0), (2, 0))
    bench.know(2, "aaaabbbb")
    bench.know(3, "aaaabbbbcccc")
    assert bench.choose("aaaabbbbccccdddd!") == 3
    assert bench.hits == {2: 50, 3: 75}
    assert bench.told[-1].selected == bench.fleet[2].url
    assert (bench.told[-1].reason, list(bench.told[-1].loads)) == ("", [2, 2, 2])


def test_the_score_weighs_hits_against_load() -> None:
    # Loads 3 and 4, so load/maxload is 0.75 and 1; candidate 2 knows one of four blocks.
    # 1: (100 - 0)/100 x 1 + 0.75 x w, 2: (100 - 25)/100 x 1 + 1 x w: equal at w = 1.
    for weight, expected in ((0.9, 2), (1.1, 1)):
        bench = Bench((3, 0), (4, 0), load_balance_weight=weight)
        bench.know(2, "aaaa")
        assert bench.choose("aaaabbbbccccdddd") == expected


def test_the_hit_weight() -> None:
    # Equal where 0.25 x w = 0.25 x 1, with the loads of above.
    for weight, expected in ((0.9, 1), (1.1, 2)):
        bench = Bench((3, 0), (4, 0), hit_ratio_weight=weight)
        bench.know(2, "aaaa")
        assert bench.choose("aaaabbbbccccdddd") == expected


def test_ties_go_to_fewer_tokens_and_then_to_any() -> None:
    assert {Bench((1, 9), (1, 8), (1, 8), seed=seed).choose("aaaa") for seed in range(30)} == {2, 3}
    bench = Bench((3, 100), (4, 0), load_balance_weight=1.0)  # the exact tie of above
    bench.know(2, "aaaa")
    assert bench.choose("aaaabbbbccccdddd") == 2


def test_an_idle_fleet_has_no_load_to_weigh() -> None:
    bench = Bench((0, 0), (0, 0), (0, 0))
    bench.know(3, "aaaa")
    assert bench.choose("aaaabbbb") == 3


def test_hits_are_rounded_down_and_a_partial_last_block_does_not_count() -> None:
    bench = Bench((1, 0), (1, 0))
    bench.know(1, "aaaabbbb")
    bench.choose("aaaabbbbccccxx")
    assert bench.hits == {1: 66}


@pytest.mark.parametrize(
    ("loads", "options", "imbalanced"),
    [
        ((1, 2), {}, False),  # 2 - 1 isn't more than 1
        ((1, 3), {}, True),  # 2 > 1, 2/3 > 0.2
        ((10, 12), {}, False),  # 2 > 1, 2/12 isn't more than 0.2
        ((8, 10), {}, False),  # just 0.2
        ((7, 10), {}, True),
        ((1, 3), {"balance_abs_threshold": 2}, False),
        ((10, 12), {"balance_rel_threshold": 0.1}, True),
        ((5, 5), {"balance_abs_threshold": 0.5}, False),
    ],
)
def test_imbalanced_loads_leave_it_to_process_tokens(
    loads: tuple[int, int], options: dict[str, float], imbalanced: bool
) -> None:
    # The first has less load and knows the prompt, the second has fewer tokens.
    bench = Bench((loads[0], 50), (loads[1], 5), **options)
    bench.know(1, "aaaabbbb")
    assert bench.choose("aaaabbbb") == (2 if imbalanced else 1)
    assert bench.told[-1].reason == ("load imbalanced" if imbalanced else "")


def test_an_empty_prompt_is_left_to_process_tokens() -> None:
    bench = Bench((1, 9), (1, 3))
    assert bench.choose("") == 2
    assert bench.told[-1].reason == "tokenize failed: empty prompt for tokenizer"


def test_a_prompt_of_less_than_a_block_is_scored_by_load() -> None:
    bench = Bench((2, 0), (1, 0))
    assert bench.choose("abc") == 2
    assert bench.told[-1].reason == ""


def test_who_was_chosen_is_remembered_also_after_a_fallback_and_alone() -> None:
    bench = Bench((0, 0), (0, 0), (0, 0))
    first = bench.choose("aaaabbbbcccc")
    assert {bench.choose("aaaabbbbcccc") for _ in range(10)} == {first}
    bench = Bench((1, 0), (9, 5))
    assert bench.choose("aaaabbbb") == 1
    assert bench.told[-1].reason == "load imbalanced"
    assert bench.index.blocks_of(bench.fleet[0].url) == 2
    bench = Bench((0, 0))
    assert bench.choose("aaaabbbb") == 1
    assert bench.index.blocks == 2


def test_a_removed_instance_has_no_hits() -> None:
    bench = Bench((1, 0), (1, 0))
    bench.know(1, "aaaa")
    bench.know(2, "aaaa")
    bench.choose("aaaabbbbcccc")
    bench.index.remove(bench.fleet[0].url)
    bench.choose("aaaa")
    assert 1 not in bench.hits


def test_instances_that_are_no_candidates_now_are_left_alone() -> None:
    bench = Bench((1, 0), (1, 0), (1, 0))
    bench.know(1, "aaaabbbb")
    bench.know(3, "aaaa")
    assert bench.policy.choose(FakeRequest("aaaabbbb"), bench.fleet[1:]) is bench.fleet[2]
    assert bench.choose("aaaabbbb") in {1, 3}


@pytest.mark.parametrize("text", ["some text", ""], ids=["from a tokenizer", "from the client"])
def test_tokens_are_used_instead_of_characters(text: str) -> None:
    bench = Bench((1, 0), (1, 0))
    request = FakeRequest(text)
    request.token_ids = array("I", [7, 8, 9, 10, 11, 12, 13, 14, 15])
    chosen = bench.policy.choose(request, bench.fleet)
    assert bench.index.blocks == 2
    other = FakeRequest(text and "another text")
    other.token_ids = array("I", [7, 8, 9, 10, 0, 0, 0, 0])
    assert bench.policy.choose(other, bench.fleet) is chosen
    assert list(bench.told[-1].hit_ratios.values()) == [50]


def test_the_same_seed_makes_the_same_choices() -> None:
    def choices() -> list[int]:
        bench, rng = Bench(*[(3, 0)] * 9, seed=7), random.Random(2)
        return [bench.choose("".join(rng.choices("ab", k=12))) for _ in range(100)]

    assert choices() == choices()


def test_remote_loads_are_those_the_instances_tell() -> None:
    bench = Bench((0, 0), (0, 0), name="remote_cache_aware")
    bench.figures.report(bench.fleet[0].url, running=2, waiting=2, own=0)
    bench.figures.report(bench.fleet[1].url, running=3, waiting=0, own=0)
    assert bench.choose("aaaa") == 2
    assert list(bench.told[-1].loads) == [4, 3]
    bench.figures.report(bench.fleet[1].url, running=3, waiting=7, own=0)
    bench.choose("aaaa")
    assert bench.told[-1].reason == "load imbalanced"


def score(bench: Bench, number: int, percent: int, high: float) -> float:
    options = bench.options
    share = bench.fleet[number - 1].running / high if high else 0
    return (100 - percent) / 100 * options.hit_ratio_weight + share * options.load_balance_weight


@pytest.mark.parametrize("size", [2, 8, 64, 65, 200])
@pytest.mark.parametrize("name", ["cache_aware", "remote_cache_aware"])
def test_no_other_candidate_has_a_lower_score(size: int, name: str) -> None:
    rng = random.Random(size)
    for weight in (0.05, 0.3, 1.0):
        bench = Bench(*[(0, 0)] * size, name=name, load_balance_weight=weight, balance_abs_threshold=1e9)
        for number in range(1, size + 1):
            bench.know(number, "aaaa")  # more than few hold a beginning
            bench.know(number, "aaaa" + "".join(rng.choices("bc", k=8)))
        for _ in range(25):
            for candidate in bench.fleet:
                candidate.running, candidate.tokens = rng.randrange(4), rng.randrange(3)
            prompt = rng.choice(["aaaa", "xxxx"]) + "".join(rng.choices("bc", k=rng.choice([8, 12])))
            high = max(candidate.running for candidate in bench.fleet)
            hits = true_hits(bench, prompt)
            scores = [score(bench, number, hits.get(number, 0), high) for number in range(1, size + 1)]
            assert scores[bench.choose(prompt) - 1] == min(scores)
            if size <= 64:
                assert bench.hits == hits


def true_hits(bench: Bench, prompt: str) -> dict[int, int]:
    match = bench.index.match(BlockHasher(BLOCK).of_text(prompt))
    numbers = {bench.index.id_of(candidate.url): number for number, candidate in enumerate(bench.fleet, 1)}
    hits: dict[int, int] = {}
    for group in match.groups():
        for holder in group.holders:
            hits.setdefault(numbers[holder], group.depth * 100 // match.blocks)
    return hits


@pytest.mark.parametrize("high", [255, 256, 1000])
def test_the_imbalance_of_a_large_fleet(high: int) -> None:
    bench = Bench(*[(high - 1, 0)] * 99, (high, 0))
    bench.choose("aaaa")
    assert bench.told[-1].reason == ""
    bench.fleet[0].running = 100
    bench.choose("aaaa")
    assert bench.told[-1].reason == "load imbalanced"


def test_in_a_large_fleet_all_idle_ones_are_chosen_in_time() -> None:
    bench = Bench(*[(0, 0)] * 300)
    assert len({bench.choose(f"{number:04}") for number in range(3000)}) == 300
