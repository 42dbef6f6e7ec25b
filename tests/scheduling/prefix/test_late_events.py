"""What is known beforehand of a full cache whose engine tells late, as vLLM does: with its next step, or later."""

from __future__ import annotations

import random
from array import array
from collections import OrderedDict
from itertools import count
from typing import Any

import pytest

from fd_router.engines.kv_events import BlockRemoved, BlockStored
from fd_router.scheduling.prefix.engine_blocks import EngineBlocks
from fd_router.scheduling.prefix.index import PrefixIndex
from fd_router.scheduling.prefix.told_lookup import ToldLookup

SIZE = 4
BLOCKS = 128
NAME = "engine"


class Request:
    prompt, cache_seed = "", 0

    def __init__(self, tokens: list[int]) -> None:
        self.token_ids = array("I", tokens)


class Engine:
    """Evicts the least recently used block, of one prompt its end first; what isn't a whole block takes one, too."""

    def __init__(self) -> None:
        self._free: OrderedDict[Any, None] = OrderedDict((("empty", number), None) for number in range(BLOCKS))
        self._hashes: dict[tuple[int, ...], int] = {}  # by prefix
        self._numbers = count(1)

    def serve(self, tokens: list[int]) -> tuple[int, list[Any]]:
        """Return how many blocks are hit, and what is told of it."""
        prefixes = [tuple(tokens[: end * SIZE]) for end in range(1, len(tokens) // SIZE + 1)]
        most = min(len(prefixes), (len(tokens) - 1) // SIZE)
        hits = next((at for at in range(most) if prefixes[at] not in self._free), most)
        for prefix in prefixes[:hits]:
            del self._free[prefix]
        events: list[Any] = []
        for _ in range(-(-len(tokens) // SIZE) - hits):
            evicted, _ = self._free.popitem(last=False)
            if evicted in self._hashes:
                events.append(BlockRemoved([self._hashes.pop(evicted)]))
        if new := prefixes[hits:]:
            parent = self._hashes[prefixes[hits - 1]] if hits else None
            hashes: list[Any] = [self._hashes.setdefault(prefix, next(self._numbers)) for prefix in new]
            events.append(BlockStored(hashes, parent, tokens[hits * SIZE : len(prefixes) * SIZE], SIZE))
        if len(tokens) % SIZE:
            self._free["rest", next(self._numbers)] = None
        self._free.update(dict.fromkeys(reversed(prefixes)))
        return hits, events


@pytest.mark.parametrize("late", [0, 1, 2, 4])  # requests
@pytest.mark.parametrize("system", [0, 60])
def test_what_is_known_beforehand_is_what_is_hit(late: int, system: int) -> None:
    rng, now = random.Random(7), 100.0

    def clock() -> float:
        return now

    index, blocks = PrefixIndex(clock), EngineBlocks(clock)
    lookup = ToldLookup(index, SIZE, blocks=blocks, clock=clock, on_truth=lambda *_: None)
    index.set_limit(NAME, BLOCKS)
    cache, engine, untold = blocks.cache(NAME), Engine(), list[list[Any]]()
    cache.begin()
    known = hit = asked = 0
    lengths = [SIZE * rng.randint(12, 27) + rng.randint(1, 3) for _ in range(9)]  # no whole blocks
    prompts = [[*range(system), *range(1000 * at, 1000 * at + length)] for at, length in enumerate(lengths, 1)]
    for _ in range(400):
        now += 0.1
        request = Request(rng.choice(prompts))
        match = lookup.find(request)  # type: ignore[arg-type]
        found = next((group.depth for group in match.groups() if index.id_of(NAME) in group.holders), 0)
        lookup.insert(match, NAME)
        hits, events = engine.serve(list(request.token_ids))
        untold.append(events)
        while len(untold) > late:
            cache.apply(untold.pop(0))
        blocks.flush()
        known, hit, asked = known + found, hit + hits, asked + len(request.token_ids) // SIZE
    assert abs(known - hit) / asked < 0.005  # two to seven points, if what is being evicted counted
