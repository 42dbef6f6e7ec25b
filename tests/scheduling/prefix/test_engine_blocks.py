"""What engines hold, by their events: against a model that keeps whole prefixes."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from fd_router.engines.kv_event_batches import KvEventDecoder
from fd_router.engines.kv_events import AllBlocksCleared, BlockRemoved, BlockStored, KvEvent
from fd_router.scheduling.prefix.block_hashes import odd_numbers
from fd_router.scheduling.prefix.chain_hashes import FACTOR, MASK, ChainHasher
from fd_router.scheduling.prefix.engine_blocks import EngineBlocks, EngineCache, Held

SIZE = 2
TOKENS = st.lists(st.integers(0, 2), min_size=SIZE, max_size=5 * SIZE)


def stored(tokens: list[int], first: int = 0, last: int | None = None, **more: Any) -> BlockStored:
    """Tell that blocks ``first`` to ``last`` of a prompt were stored; an engine's hash here is the prefix itself."""
    blocks = len(tokens) // SIZE
    last = blocks if last is None else last
    hashes = [name(tokens, at) for at in range(first + 1, last + 1)]
    parent = name(tokens, first) if first else None
    return BlockStored(list(hashes), parent, tokens[first * SIZE : last * SIZE], SIZE, **more)


def name(tokens: list[int], blocks: int) -> bytes:
    return bytes(tokens[: blocks * SIZE])


def held(blocks: EngineBlocks, tokens: list[int], seed: int = 0, size: int = SIZE) -> dict[str, Held]:
    blocks.flush()
    names = blocks.hasher(size).of_prompt(array("I", tokens), seed)
    found = {each: cache.held(names) for each, cache in blocks.caches.items()}
    return {each: held for each, held in found.items() if held.anywhere}


def make(*names: str) -> EngineBlocks:
    blocks = EngineBlocks(lambda: 0.0)
    for each in names:
        blocks.cache(each)
    return blocks


@given(TOKENS, st.integers(0, 2**64 - 1), st.integers(1, 7))
def test_a_prefix_has_one_name_whoever_cuts_it(tokens: list[int], seed: int, size: int) -> None:
    hasher = ChainHasher(size)
    whole = len(tokens) // size * size
    chain, at = [], seed
    for each in hasher.of_blocks(array("I", tokens[:whole])):
        at = (at * FACTOR + each) & MASK
        chain.append(at)
    assert hasher.of_prompt(array("I", tokens), seed) == chain


@given(st.lists(st.integers(0, 2**32 - 1), max_size=40), st.integers(1, 17))
def test_a_block_is_named_by_a_mixed_sum_of_products(tokens: list[int], size: int) -> None:
    multipliers = [int(each) for each in odd_numbers(5, size)]
    whole = len(tokens) // size * size
    expected = []
    for start in range(0, whole, size):
        block = zip(tokens[start : start + size], multipliers, strict=True)
        each = (sum(token * by for token, by in block) + (sum(multipliers) & MASK ^ size)) & MASK
        each = (each ^ each >> 32) * 0xBF58476D1CE4E5B9 & MASK
        expected.append(each ^ each >> 29)
    assert ChainHasher(size).of_blocks(array("I", tokens[:whole])) == expected


def test_zeros_are_tokens_too() -> None:
    names = ChainHasher(SIZE).of_prompt(array("I", [0] * 40))
    assert len(set(names)) == 20
    assert 0 not in names


def test_adapters_and_block_sizes_have_names_of_their_own() -> None:
    tokens = array("I", range(8))
    names = [ChainHasher(size).of_prompt(tokens, seed)[-1] for size in (2, 4) for seed in (0, 7)]
    assert len(set(names)) == 4


class Model:
    """One cache as an engine has it: copies of blocks on the device, by the prefix that they end."""

    def __init__(self) -> None:
        self.copies: dict[bytes, int] = {}

    def depth(self, tokens: list[int]) -> int:
        depth = 0
        while (depth + 1) * SIZE <= len(tokens) and self.copies.get(name(tokens, depth + 1)):
            depth += 1
        return depth


class Fleet:
    """Caches that are told of what happens to their models, in pieces of ``at_once`` bytes."""

    def __init__(self, prompts: list[list[int]], at_once: int) -> None:
        self.names = ["a", "b", "c"]
        self.prompts = prompts
        self.at_once = at_once
        self.blocks, self.models = make(*self.names), {each: Model() for each in self.names}

    def store(self, draw: Any, which: str) -> None:
        model, tokens = self.models[which], draw(st.sampled_from(self.prompts))
        first = draw(st.integers(0, model.depth(tokens)))
        self._tell(which, stored(tokens, first))
        for at in range(first + 1, len(tokens) // SIZE + 1):
            model.copies[name(tokens, at)] = model.copies.get(name(tokens, at), 0) + 1

    def remove(self, draw: Any, which: str) -> None:
        copies = self.models[which].copies
        if copies:
            block = draw(st.sampled_from(sorted(copies)))
            longer = [each for each in copies if each.startswith(block)]  # an end goes before what it follows on
            block = max(longer, key=len)
            self._tell(which, BlockRemoved([block]))
            copies[block] -= 1
            if not copies[block]:
                del copies[block]

    def clear(self, draw: Any, which: str) -> None:
        self._tell(which, AllBlocksCleared())
        self.models[which].copies.clear()

    def _tell(self, which: str, event: KvEvent) -> None:
        tell(self.blocks.cache(which), [event], self.at_once)


def tell(cache: EngineCache, events: Sequence[KvEvent | None], at_once: int) -> None:
    """Let ``cache`` take in what an engine sends, a batch in pieces of ``at_once`` bytes."""
    batch = KvEventDecoder(at_once).decode(msgspec.msgpack.encode([1.0, events]))
    cache.apply(batch.events, batch.unknown)
    while batch.pieces is not None and not batch.pieces.are_taken:
        piece = batch.pieces.take()
        cache.apply(piece.events, piece.unknown, goes_on=piece.goes_on)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from([1, 60, 100_000]))
def test_what_is_held_is_what_the_engine_holds(data: st.DataObject, at_once: int) -> None:
    fleet = Fleet(data.draw(st.lists(TOKENS, min_size=1, max_size=4)), at_once)
    steps = st.sampled_from([fleet.store, fleet.store, fleet.store, fleet.remove, fleet.remove, fleet.clear])
    for step, which in data.draw(st.lists(st.tuples(steps, st.sampled_from(fleet.names)), max_size=25)):
        step(data.draw, which)
    for tokens in fleet.prompts:
        found = held(fleet.blocks, tokens)
        for each, model in fleet.models.items():
            depth = model.depth(tokens)
            assert found.get(each, Held(0, 0)) == Held(depth, depth)


@given(TOKENS, st.data())
def test_how_events_are_cut_into_batches_makes_no_difference(tokens: list[int], data: st.DataObject) -> None:
    depth = len(tokens) // SIZE
    places = st.sampled_from([("GPU", 0), ("CPU", 0), (None, None), ("GPU", 1)])  # blocks of the last one are useless
    blocks = st.lists(st.integers(1, depth), min_size=1, max_size=3).map(lambda at: [name(tokens, each) for each in at])
    events: list[KvEvent] = [stored(tokens, group_idx=1, kv_cache_spec_kind="mamba")]
    for kind in data.draw(st.lists(st.sampled_from("ssrrrrc"), max_size=20)):
        medium, group = data.draw(places)
        if kind == "s":
            kept = data.draw(st.integers(0, depth - 1))
            events.append(stored(tokens, kept, medium=medium, group_idx=group))
        else:
            events.append(BlockRemoved(data.draw(blocks), medium, group) if kind == "r" else AllBlocksCleared())
    together, apart = make("a"), make("a")
    together.cache("a").apply(copied(events))
    for event in copied(events):
        apart.cache("a").apply([event])
        apart.flush()
    assert held(together, tokens) == held(apart, tokens)
    one, other = together.cache("a"), apart.cache("a")
    assert (one.counts, one.orphans, one.size) == (other.counts, other.orphans, other.size)


@given(TOKENS, st.data(), st.integers(400, 1200))
def test_how_a_batch_is_cut_into_pieces_makes_no_difference(
    tokens: list[int], data: st.DataObject, at_once: int
) -> None:
    depth = len(tokens) // SIZE
    kept, places = st.integers(0, depth - 1), st.sampled_from([("GPU", 0), ("CPU", 0), (None, None), ("GPU", 1)])
    blocks = st.lists(st.integers(1, depth), min_size=1, max_size=3).map(lambda at: [name(tokens, each) for each in at])
    keys = st.sampled_from([None, [None] * depth, [[]] * depth, [["image", 3]] * depth])
    other_size = BlockStored([b"other"], None, tokens[:1], 1)
    events: list[KvEvent] = []
    for kind in data.draw(st.lists(st.sampled_from("ssrrrcuo"), max_size=20)):
        medium, group = data.draw(places)
        if kind == "s":
            first = data.draw(kept)
            extra = data.draw(keys)
            events.append(stored(tokens, first, medium=medium, group_idx=group, extra_keys=extra and extra[first:]))
        elif kind == "r":
            events.append(BlockRemoved(data.draw(blocks), medium, group))
        else:
            useless = stored(tokens, group_idx=1, kv_cache_spec_kind="mamba")
            events.append({"c": AllBlocksCleared(), "u": useless, "o": other_size}[kind])
    together, in_pieces = make("a"), make("a")
    for fleet in (together, in_pieces):
        fleet.cache("a").apply([stored(tokens)])
    together.cache("a").apply(copied(events))
    tell(in_pieces.cache("a"), [*events, None], at_once)
    for size in (SIZE, 1):
        assert held(together, tokens, size=size) == held(in_pieces, tokens, size=size)
    one, other = together.cache("a"), in_pieces.cache("a")
    assert (one.orphans, one.size, one.block_size) == (other.orphans, other.size, other.block_size)
    assert one.counts | {"unknown": 1} == other.counts


def test_many_blocks_are_taken_in_at_once_however_few_events_tell_of_them() -> None:
    blocks = make("a")
    for at in range(3):
        cache, numbers = blocks.cache("a"), range(at * 6000, (at + 1) * 6000)
        cache.apply([BlockStored([*numbers], None, [*numbers], 1)])
    assert cache.size == 12_000  # the rest comes with the next ones
    cache.apply([BlockRemoved([*range(6000)])])
    assert cache.size == 12_000


def copied(events: list[KvEvent]) -> list[KvEvent]:
    """Return events of their own: a cache takes the tokens out."""
    return [structs.replace(each, token_ids=[*each.token_ids]) if isinstance(each, BlockStored) else each
            for each in events]  # fmt: skip


def test_each_copy_of_a_block_is_removed_by_itself() -> None:
    blocks, tokens = make("a"), list(range(8))
    cache = blocks.cache("a")
    cache.apply([stored(tokens, 0, 2), stored(tokens), stored(tokens, 1)])  # 2, 3, 2 and 2 copies
    for removed, left in (((4, 3, 2, 1), 4), ((4, 3), 2), ((2,), 2), ((2,), 1), ((1, 1), 0)):
        cache.apply([BlockRemoved([name(tokens, at)]) for at in removed])
        assert held(blocks, tokens).get("a", Held(0, 0)) == Held(left, left)
    assert cache.size == 0


def test_media_are_told_apart() -> None:
    blocks, tokens = make("a"), list(range(8))
    cache = blocks.cache("a")
    cache.apply(
        [stored(tokens, medium="GPU"), stored(tokens, 0, 3, medium="CPU"), BlockRemoved([name(tokens, 4)], "GPU")]
    )
    assert held(blocks, tokens) == {"a": Held(3, 3)}
    cache.apply([BlockRemoved([name(tokens, at) for at in (2, 3)], "GPU")])
    assert held(blocks, tokens) == {"a": Held(3, 1)}
    cache.apply([BlockRemoved([name(tokens, 2)], "CPU")])
    assert held(blocks, tokens) == {"a": Held(1, 1)}
    cache.apply([BlockRemoved([name(tokens, 1)], "CPU"), BlockRemoved([name(tokens, 1)], None)])
    assert held(blocks, tokens) == {}


def test_blocks_of_a_window_tell_nothing_of_a_hit() -> None:
    blocks, tokens = make("a"), list(range(8))
    cache = blocks.cache("a")
    cache.apply([stored(tokens, group_idx=0, kv_cache_spec_kind="full_attention")])
    cache.apply([stored(tokens, group_idx=1, kv_cache_spec_kind="sliding_window")])
    cache.apply([BlockRemoved([name(tokens, 1)], group_idx=1)])
    assert held(blocks, tokens) == {"a": Held(4, 4)}


def test_an_image_or_a_salt_makes_another_prompt() -> None:
    blocks, tokens = make("a", "b", "c"), list(range(8))
    blocks.cache("a").apply([stored(tokens, extra_keys=[None, ["image", 3], None, None])])
    blocks.cache("b").apply([stored(tokens, extra_keys=[["salt"], None, None, None])])
    blocks.cache("c").apply([stored(tokens, 0, 2, cache_salt="salt"), stored(tokens, 2, cache_salt="salt")])
    assert held(blocks, tokens) == {"a": Held(1, 1)}


def test_an_adapters_blocks_are_found_by_its_requests_only() -> None:
    blocks = EngineBlocks(lambda: 0.0, {"adapter": 77}.__getitem__)
    tokens = list(range(8))
    blocks.cache("a").apply([stored(tokens, lora_name="adapter", extra_keys=[["adapter"]] * 4)])
    assert held(blocks, tokens) == {}
    assert held(blocks, tokens, 77) == {"a": Held(4, 4)}


@pytest.mark.parametrize(
    "event",
    [
        BlockStored([1], None, [1, 2, 3], SIZE),  # blocks are missing
        BlockStored([1], None, [-1, 2], SIZE),
        BlockStored([1], None, [2**40, 2], SIZE),
        BlockStored([1], 5, [1, 2], SIZE),  # of an unknown parent
        BlockStored([], None, [], 0),
        BlockStored([1], None, [1, 2], 0),
        BlockStored([1], None, [1, 2], -7),
        BlockStored([1], None, [1, 2], 10**9),
    ],
)
def test_what_can_not_be_placed_is_left_out(event: BlockStored) -> None:
    blocks, tokens = make("a"), list(range(8))
    cache = blocks.cache("a")
    cache.apply([stored(tokens, 0, 2), event, stored(tokens, 2)])
    assert held(blocks, tokens) == {"a": Held(4, 4)}


def test_another_block_size_begins_anew() -> None:
    blocks, tokens = make("a"), list(range(8))
    cache = blocks.cache("a")
    cache.apply([stored(tokens)])
    cache.apply([BlockStored([9], None, tokens[:4], 4)])
    assert held(blocks, tokens) == {}
    assert held(blocks, tokens, size=4) == {"a": Held(1, 1)}


def test_a_prompt_that_was_sent_is_settled_by_the_word_of_its_last_block() -> None:
    blocks, tokens = make("a"), list(range(8))
    cache = blocks.cache("a")
    cache.apply([stored([9, 9])])
    last = blocks.hasher(SIZE).of_prompt(array("I", tokens))[-1]
    cache.on_their_way.sent(last, 5.0, 0)
    cache.apply([stored(tokens, 0, 3)])
    blocks.flush()
    assert cache.on_their_way.settled == 0.0
    cache.apply([stored(tokens, 3)])
    blocks.flush()
    assert (cache.on_their_way.settled, len(cache.on_their_way)) == (5.0, 0)
