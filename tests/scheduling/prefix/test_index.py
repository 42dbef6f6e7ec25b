"""The index against a naive model, and its limits."""

from __future__ import annotations

import random
import tracemalloc
from hashlib import blake2b

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fd_router.scheduling.prefix.index import PrefixIndex
from tests.support.naive_index import NaiveIndex

NAMES = ["a", "b", "c"]
PROMPTS = st.lists(st.integers(0, 1), max_size=12).map(tuple)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def keys_of(prompt: tuple[int, ...]) -> bytes:
    """Name each prefix of ``prompt`` by eight bytes."""
    return b"".join(
        blake2b(bytes(prompt[:length]), digest_size=8).digest() for length in range(1, len(prompt) + 1)
    )  # fmt: skip


def hits(index: PrefixIndex, keys: bytes) -> dict[str, int]:
    """Return how many blocks each instance holds, of those that hold any."""
    names = {index.id_of(name): name for name in NAMES}
    found: dict[str, int] = {}
    for group in index.match(keys).groups():
        for holder in group.holders:
            if holder in names:
                found.setdefault(names[holder], group.depth)
    return found


def insert(index: PrefixIndex, keys: bytes, name: str) -> None:
    index.insert(index.match(keys), name)


class IndexMachine(RuleBasedStateMachine):
    """Does the same with both. Three instances and two kinds of blocks make paths that meet all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.index = PrefixIndex(self.clock, max_blocks=20, duration=10)
        self.index._max_tags = 10_000
        self.naive = NaiveIndex(20, 10)
        self.learnt = 0  # blocks of instances

    @rule(name=st.sampled_from(NAMES), prompt=PROMPTS, pause=st.integers(1, 3))
    def use(self, name: str, prompt: tuple[int, ...], pause: int) -> None:
        self.clock.now += pause
        self.learnt += len(prompt) - self.naive.depth(name, prompt)
        insert(self.index, keys_of(prompt), name)
        self.naive.insert(name, prompt, self.clock.now)

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        self.index.remove(name)
        self.naive.remove(name)
        assert self.index.blocks_of(name) == 0

    @rule(name=st.sampled_from(NAMES), limit=st.integers(1, 10))
    def limit(self, name: str, limit: int) -> None:
        self.index.set_limit(name, limit)
        self.naive.set_limit(name, limit)

    @rule(pause=st.integers(0, 8))
    def sweep(self, pause: int) -> None:
        self.clock.now += pause
        assert not self.index.sweep()
        self.naive.sweep(self.clock.now)

    @rule(prompt=PROMPTS)
    def match(self, prompt: tuple[int, ...]) -> None:
        expected = {name: depth for name in NAMES if (depth := self.naive.depth(name, prompt))}
        assert hits(self.index, keys_of(prompt)) == expected

    @invariant()
    def sizes_agree(self) -> None:
        self.index._purge(1000)  # what removed instances left is freed in portions otherwise
        assert self.index.blocks == self.naive.blocks()
        assert [self.index.blocks_of(name) for name in NAMES] == [self.naive.blocks_of(name) for name in NAMES]
        held = sum(self.index.blocks_of(name) for name in NAMES)
        assert self.learnt == held + sum(self.index.forgotten.values())
        check_structure(self.index)


@pytest.mark.parametrize(
    ("prompt", "branches"),
    [((1, 1), False), ((0, 0), False), ((0, 0, 1, 1, 1), False), ((0, 0, 0), True), ((0, 0, 1, 0), True), ((), False)],
)
def test_a_prompt_branches_where_others_go_on_otherwise(prompt: tuple[int, ...], branches: bool) -> None:
    index = PrefixIndex(Clock())
    insert(index, keys_of((0, 0, 1, 1)), "a")
    assert index.match(keys_of(prompt)).branches is branches
    insert(index, keys_of((0, 0, 2)), "b")  # behind which is an end of an edge with two children
    assert index.match(keys_of(prompt)).branches is branches


def test_how_full_an_instance_is() -> None:
    index = PrefixIndex(Clock())
    assert index.fullness("a") == 0.0
    insert(index, keys_of((0, 0, 1, 1)), "a")
    assert index.fullness("a") == 0.0  # nobody knows of how much
    index.set_limit("a", 16)
    assert index.fullness("a") == 0.25


def check_structure(index: PrefixIndex) -> None:
    """Walk the whole tree: its counts, its links, and that a tag never stands below an edge without one."""
    blocks = tags = 0
    waiting = [(index._root, None)]
    while waiting:
        edge, above = waiting.pop()
        own = set(edge.tags or ([edge.tag.holder.id] if edge.tag else []))
        assert edge.tags is None or len(edge.tags) > 1
        if edge is not index._root:
            assert own
            assert edge.keys
            assert above is None or own <= above
            assert edge.parent is not None
            assert edge.start == edge.parent.start + edge.parent.blocks
            blocks += edge.blocks
            tags += len(own)
        assert edge.children is None or edge.children
        for key, child in (edge.children or {}).items():
            assert child.keys.startswith(key)
            assert child.parent is edge
            waiting.append((child, None if edge is index._root else own))
    assert (blocks, tags) == (index.blocks, index.tags)
    assert tags == sum(len(list_of(holder)) for holder in [*index._holders.values(), *index._removed])


def list_of(holder):  # type: ignore[no-untyped-def]
    """Return a holder's tags from oldest to newest."""
    tags = []
    tag, before = holder.oldest, None
    while tag is not None:
        assert tag.older is before
        tags.append(tag)
        tag, before = tag.newer, tag
    assert holder.newest is before
    assert [tag.used for tag in tags] == sorted(tag.used for tag in tags)
    return tags


TestIndexMachine = IndexMachine.TestCase
TestIndexMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_long_random_prompts_agree_with_the_model() -> None:
    rng = random.Random(4)
    clock = Clock()
    index, naive = PrefixIndex(clock, max_blocks=400, duration=1e9), NaiveIndex(400, 1e9)
    prompts: list[tuple[int, ...]] = [()]
    for _ in range(150):
        clock.now += 1
        old = rng.choice(prompts[-8:])
        prompt = old[: rng.randint(0, len(old))] + tuple(rng.randrange(256) for _ in range(rng.randint(1, 60)))
        prompts.append(prompt)
        name = rng.choice(NAMES)
        assert hits(index, keys_of(prompt)) == {n: d for n in NAMES if (d := naive.depth(n, prompt))}
        insert(index, keys_of(prompt), name)
        naive.insert(name, prompt, clock.now)
        assert index.blocks == naive.blocks()
    check_structure(index)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def some(seed: int, count: int) -> bytes:
    return random.Random(seed).randbytes(count * 8)


def test_groups_are_nested_and_come_deepest_first(clock: Clock) -> None:
    index = PrefixIndex(clock)
    keys = some(1, 10)
    for name, depth in (("a", 10), ("b", 4), ("c", 4)):
        insert(index, keys[: depth * 8], name)
    a, b, c = map(index.id_of, NAMES)
    assert [(group.depth, set(group.holders)) for group in index.match(keys).groups()] == [(10, {a}), (4, {a, b, c})]
    assert [(group.depth, set(group.holders)) for group in index.match(keys[:24]).groups()] == [(3, {a, b, c})]
    assert list(index.match(some(2, 10)).groups()) == []


def test_an_instance_that_comes_back_begins_anew(clock: Clock) -> None:
    index = PrefixIndex(clock)
    keys = some(1, 5)
    insert(index, keys, "a")
    insert(index, keys, "b")
    before, version = index.id_of("a"), index.version
    index.remove("a")
    assert index.id_of("a") == 0
    assert index.version != version
    insert(index, keys[:16], "a")
    assert index.id_of("a") != before
    assert hits(index, keys) == {"a": 2, "b": 5}


def test_removing_is_quick_and_memory_comes_back_in_portions(clock: Clock) -> None:
    index = PrefixIndex(clock)
    for seed in range(100):
        insert(index, some(seed, 3), "a")
    index.remove("a")
    assert hits(index, some(7, 3)) == {}
    assert index.tags == 100
    insert(index, some(200, 3), "b")
    assert 1 < index.tags < 100
    while index.sweep(10):
        pass
    assert (index.blocks, index.tags) == (3, 1)


def test_a_sweep_may_be_done_in_portions(clock: Clock) -> None:
    index = PrefixIndex(clock, duration=60)
    for seed in range(25):
        insert(index, some(seed, 2), "a")
    clock.now = 59.9
    assert not index.sweep()
    assert index.tags == 25
    clock.now = 60
    assert [index.sweep(10), index.sweep(10), index.sweep(10)] == [True, True, False]
    assert (index.blocks, index.tags) == (0, 0)


def test_the_hard_limit_holds_whatever_comes(clock: Clock) -> None:
    index = PrefixIndex(clock, max_blocks=100)
    rng = random.Random(1)
    for seed in range(300):
        clock.now += 1
        insert(index, some(seed, rng.choice([1, 1, 2, 150])), rng.choice(NAMES))
        assert index.blocks <= 100
        assert index.tags <= 40
    check_structure(index)


def test_of_a_prompt_longer_than_an_instances_cache_the_beginning_is_kept(clock: Clock) -> None:
    index = PrefixIndex(clock, instance_blocks=6)
    keys = some(1, 10)
    insert(index, keys, "a")
    assert hits(index, keys) == {"a": 6}
    index.set_limit("a", 0)  # none
    insert(index, keys, "a")
    assert hits(index, keys) == {"a": 10}


def test_no_blocks_are_nobodys(clock: Clock) -> None:
    index = PrefixIndex(clock)
    insert(index, b"", "a")
    assert (index.blocks, index.tags, index.match(b"").depth) == (0, 0, 0)


def test_a_match_that_ends_inside_an_edge_splits_it_only_when_inserted(clock: Clock) -> None:
    index = PrefixIndex(clock)
    keys = some(1, 10)
    insert(index, keys, "a")
    index.match(keys[:40])
    assert index.tags == 1
    insert(index, keys[:40], "b")
    assert index.tags == 3
    assert index.blocks == 10
    check_structure(index)


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, 8, 750])
def test_memory_stays_below_150_bytes_a_block_of_the_limit(clock: Clock, length: int) -> None:
    tracemalloc.start()
    try:
        index = PrefixIndex(clock, max_blocks=20_000)
        for seed in range(24_000 // length):
            insert(index, some(seed, length), NAMES[seed % 3])
        assert tracemalloc.get_traced_memory()[0] < 150 * 20_000
    finally:
        tracemalloc.stop()


def test_repr_tells_the_size(clock: Clock) -> None:
    index = PrefixIndex(clock)
    insert(index, some(1, 4), "a")
    assert repr(index) == "<PrefixIndex 4 blocks, 1 tags, 1 instances>"


def test_what_is_forgotten_is_counted_by_reason() -> None:
    clock = Clock()
    index = PrefixIndex(clock, max_blocks=10, duration=10)
    insert(index, keys_of((1,) * 6), "a")
    index.set_limit("a", 4)
    insert(index, keys_of((0,) * 8), "b")
    clock.now = 20
    index.sweep()
    insert(index, keys_of((0, 1, 0)), "a")
    index.remove("a")
    index.sweep()
    assert index.forgotten == {"instance_limit": 2, "limit": 2, "age": 10, "gone": 3}
    assert index.bytes_estimate == 0


@pytest.mark.parametrize(
    ("first", "held", "expected"),
    [
        pytest.param(10, 20, 10, id="all that it was sent is there"),
        pytest.param(10, 15, 5, id="less is there than it was sent"),
        pytest.param(6, 15, 5, id="what the prompt has in common with the one that was sent goes last"),
        pytest.param(10, 0, 0, id="nothing is there"),
    ],
)
def test_what_is_left_of_a_prompt_when_others_need_its_room(clock: Clock, first: int, held: int, expected: int) -> None:
    index = PrefixIndex(clock)
    index.set_limit("a", 20)
    old, new = (keys_of((number,) * 10) for number in (1, 2))
    insert(index, old, "a")
    clock.now = 1.0
    insert(index, new, "a")
    assert index.left(index.match(old[: first * 8]), "a", held, 21) == expected
    assert index.left(index.match(new), "a", max(held, 10), 21) == 10
    assert index.left(index.match(old), "b", held, 21) == 10
    assert index.left(index.match(old), "a", held, 20) == 10
