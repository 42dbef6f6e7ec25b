"""Lookups where engines tell what they hold: the truth, what is on its way, and those that don't tell."""

from __future__ import annotations

from array import array
from typing import Any

from fd_router.engines.kv_events import AllBlocksCleared, BlockRemoved, BlockStored
from fd_router.scheduling.prefix.engine_blocks import EngineBlocks
from fd_router.scheduling.prefix.index import PrefixIndex
from fd_router.scheduling.prefix.on_their_way import PENDING_SECS
from fd_router.scheduling.prefix.told_lookup import ToldLookup

SIZE = 4
PROMPT = list(range(41))  # the last token is always computed


class Request:
    prompt, cache_seed = "some text", 0

    def __init__(self, tokens: list[int] | None) -> None:
        self.token_ids = None if tokens is None else array("I", tokens)


class Rig:
    def __init__(self) -> None:
        self.now = 100.0
        self.truth: list[tuple[int, int, int]] = []
        self.index = PrefixIndex(lambda: self.now)
        self.blocks = EngineBlocks(lambda: self.now)
        self.lookup = ToldLookup(
            self.index, SIZE, blocks=self.blocks, clock=lambda: self.now, on_truth=lambda *told: self.truth.append(told)
        )
        self.cache = self.blocks.cache("told")
        self.cache.begin()

    def tell(self, *events: Any) -> None:
        self.cache.apply(events)
        self.blocks.flush()

    def held(self, tokens: list[int] | None = PROMPT) -> dict[str, int]:
        groups = list(self.lookup.find(Request(tokens)).groups())  # type: ignore[arg-type]
        names = {self.index.holder_id(name): name for name in ("told", "guessed")}
        found: dict[str, int] = {}
        for group in groups:
            for holder in group.holders:
                found.setdefault(names[holder], group.depth)
        return found

    def send(self, name: str, tokens: list[int] | None = PROMPT) -> None:
        self.lookup.insert(self.lookup.find(Request(tokens)), name)  # type: ignore[arg-type]
        self.now += 1


def stored(blocks: int, first: int = 0, **more: Any) -> BlockStored:
    hashes: list[Any] = list(range(first + 1, blocks + 1))
    return BlockStored(hashes, first or None, PROMPT[first * SIZE : blocks * SIZE], SIZE, **more)


def test_what_is_told_counts_and_not_what_was_sent() -> None:
    rig = Rig()
    rig.send("told")
    rig.tell(stored(10))
    assert rig.held() == {"told": 10}
    rig.tell(*(BlockRemoved([block]) for block in (10, 9, 8)))
    assert rig.held() == {"told": 7}
    rig.send("told")
    assert rig.truth == [(41, 0, 0), (41, 40, 28)]


def test_what_is_on_its_way_counts_until_it_is_told_or_given_up() -> None:
    rig = Rig()
    rig.tell(stored(2))
    rig.send("told")
    assert rig.held() == {"told": 10}
    rig.tell(stored(10, 2), BlockRemoved([10]))
    assert rig.held() == {"told": 9}
    rig.tell(*(BlockRemoved([block]) for block in range(9, 0, -1)))
    rig.send("told")
    rig.now += PENDING_SECS
    assert rig.held() == {}


def test_those_that_do_not_tell_go_by_what_they_were_sent() -> None:
    rig = Rig()
    rig.send("guessed")
    rig.tell(stored(5))
    assert rig.held() == {"guessed": 10, "told": 5}
    match = rig.lookup.find(Request(PROMPT))  # type: ignore[arg-type]
    assert (match.is_told("told"), match.is_told("guessed")) == (True, False)


def test_one_that_has_not_told_all_goes_by_the_more() -> None:
    rig = Rig()
    rig.send("told")
    rig.cache.forget()
    rig.tell(stored(3))
    assert rig.held() == {"told": 10}


def test_without_tokens_what_was_sent_counts() -> None:
    rig = Rig()
    rig.tell(stored(10))
    assert rig.held(None) == {}


def test_the_last_token_is_computed_and_what_must_be_loaded_counts_less() -> None:
    rig = Rig()
    rig.tell(stored(10))
    assert rig.held(PROMPT[:40]) == {"told": 9}
    rig.tell(stored(10, medium="CPU"), *(BlockRemoved([block], "GPU") for block in (10, 9, 8, 7)))
    assert rig.held() == {"told": 9}


OTHER = list(range(100, 141))
THIRD = list(range(200, 241))


def stored_other(tokens: list[int], first: int) -> BlockStored:
    return BlockStored(list(range(first, first + 10)), None, tokens[: 10 * SIZE], SIZE)


def full(limit: int = 20) -> Rig:
    """A cache of ``limit`` blocks that holds two prompts of ten blocks each, PROMPT since longer."""
    rig = Rig()
    rig.index.set_limit("told", limit)
    for tokens, first in ((PROMPT, 1), (OTHER, 101)):
        rig.send("told", tokens)
        rig.tell(stored_other(tokens, first))
    return rig


def test_what_a_full_cache_evicts_for_a_prompt_on_its_way_counts_no_more() -> None:
    rig = full()
    rig.send("told", THIRD)
    assert (rig.held(), rig.held(OTHER), rig.held(THIRD)) == ({}, {"told": 10}, {"told": 10})
    rig.tell(*(BlockRemoved([block]) for block in range(5, 11)), stored_other(THIRD, 201))
    assert (rig.held(), rig.held(OTHER)) == ({"told": 4}, {"told": 10})  # the engine's own word


def test_a_prompt_whose_blocks_are_being_evicted_takes_room_itself() -> None:
    rig = full()
    rig.send("told", THIRD)
    rig.send("told", PROMPT)  # of which the engine hasn't told that it is evicted
    assert (rig.held(), rig.held(OTHER), rig.held(THIRD)) == ({"told": 10}, {}, {"told": 10})
    rig.tell(*(BlockRemoved([block]) for block in range(1, 11)), stored_other(THIRD, 201))
    assert rig.held(OTHER) == {}
    rig.tell(*(BlockRemoved([block]) for block in range(101, 111)), stored_other(PROMPT, 301))
    assert (rig.held(), rig.held(OTHER), rig.held(THIRD)) == ({"told": 10}, {}, {"told": 10})
    assert not rig.cache.on_their_way


def test_where_there_is_room_nothing_is_evicted() -> None:
    rig = full(40)
    rig.send("told", THIRD)
    assert (rig.held(), rig.held(OTHER)) == ({"told": 10}, {"told": 10})


def test_a_cache_that_was_flushed_evicts_nothing_whatever_it_was_sent() -> None:
    rig = full()
    rig.send("told", THIRD)
    rig.tell(stored_other(THIRD, 201), AllBlocksCleared(), stored(10))  # by another router's request
    rig.send("told", [*range(300, 313)])
    assert rig.held() == {"told": 10}


def test_not_more_is_evicted_than_what_is_on_its_way_takes() -> None:
    rig = full()
    rig.index.set_limit("told", 7)  # less than it holds: it has forgotten what is there
    rig.index.set_limit("told", 20)
    rig.send("told", THIRD)  # until it is full again, nearly
    rig.tell(stored_other(THIRD, 201))
    rig.send("told", [*range(300, 313)])  # three blocks, and a fourth that isn't whole
    assert rig.held() == {"told": 6}


def test_an_index_that_is_not_full_can_not_say_what_is_evicted() -> None:
    rig = full()
    rig.index.set_limit("told", 7)
    rig.index.set_limit("told", 30)
    rig.send("told", THIRD)
    assert rig.held() == {"told": 10}


def test_what_was_given_up_evicts_nothing() -> None:
    rig = full()
    rig.send("told", THIRD)
    rig.now += PENDING_SECS
    assert rig.held() == {"told": 10}
