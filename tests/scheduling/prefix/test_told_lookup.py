"""Lookups where engines tell what they hold: the truth, what is on its way, and those that don't tell."""

from __future__ import annotations

from array import array
from typing import Any

from fd_router.engines.kv_events import BlockRemoved, BlockStored
from fd_router.scheduling.prefix.engine_blocks import EngineBlocks
from fd_router.scheduling.prefix.index import PrefixIndex
from fd_router.scheduling.prefix.told_lookup import PENDING_SECS, ToldLookup

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
