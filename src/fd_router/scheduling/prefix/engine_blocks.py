"""Engine blocks: what the prefix caches of engines hold, as they tell by events.

A cache knows its blocks by the engine's hashes, which removals and children name, and by the names of the prefixes that
they end (``chain_hashes``), which prompts are looked up by. An engine may store a block twice (two prompts computed at
once) and tells each removal, so copies are counted. Engines evict the end of a prefix before its beginning, so how much
of a prompt is held is found by halving.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence, Set
from itertools import islice, repeat
from typing import Final, NamedTuple

import msgspec

from fd_router.engines.kv_events import DEVICE, USABLE_KINDS, BlockHash, BlockStored, KvEvent
from fd_router.scheduling.prefix.chain_hashes import FACTOR, MASK, ChainHasher, salt_of
from fd_router.scheduling.prefix.event_steps import Removing, Step, Storing, steps_of
from fd_router.scheduling.prefix.on_their_way import OnTheirWay

MAX_BLOCKS_OF_ONE: Final = 4_000_000
"""Of one cache; an engine that tells of more tells nonsense, and may not fill the memory."""

MAX_BLOCK_SIZE: Final = 4096
"""Tokens; the same."""

TOGETHER: Final = 16
"""Batches that are taken in together at most: of more, what was decoded first is out of the processor's caches."""

MANY: Final = 2000
"""Steps that are taken in together at most, whatever batches they are of: some 5 ms."""

MANY_BLOCKS: Final = 10_000
"""Blocks in them; the same."""

SeedOf = Callable[[str], int]
"""The name of an adapter → the seed of its prompts' names; see ``RequestView.cache_seed``."""


class Held(NamedTuple):
    """How many blocks of a prompt's beginning a cache holds: anywhere, and on the device."""

    anywhere: int
    on_device: int


class _Tier:
    """What one medium of a cache holds."""

    __slots__ = ("copies", "held", "names")

    def __init__(self) -> None:
        self.names: dict[BlockHash, int] = {}
        self.held: set[int] = set()  # those names
        self.copies: dict[BlockHash, int] = {}  # beyond the first

    def store(self, blocks: Sequence[BlockHash], chain: Sequence[int]) -> None:
        """Hold ``blocks``, named ``chain``."""
        names = self.names
        before = len(names)
        names.update(zip(blocks, chain, strict=True))
        self.held.update(chain)
        more = len(names) - before
        if more < len(blocks):
            new = set(islice(reversed(names), more))  # what comes to a dictionary stands at its end
            for block in blocks:
                if block not in new:
                    self.copies[block] = self.copies.get(block, 0) + 1

    def remove(self, blocks: Sequence[BlockHash]) -> None:
        """Hold ``blocks``, or one copy of each, no more."""
        if self.copies:
            blocks = [block for block in blocks if not self._remove_copy(block)]
        self.held.difference_update(map(self.names.pop, blocks, repeat(None)))

    def _remove_copy(self, block: BlockHash) -> bool:
        left = self.copies.get(block, 0) - 1
        if left > 0:
            self.copies[block] = left
        elif not left:
            del self.copies[block]
        return left >= 0


class EngineCache:
    """One cache: an instance's, or one of its ranks'. Changes by events; ``EngineBlocks`` makes it."""

    __slots__ = (
        "_blocks", "_device", "_lower", "_useless_groups", "block_size", "counts", "is_whole", "name", "on_their_way",
        "orphans",
    )  # fmt: skip

    def __init__(self, blocks: EngineBlocks, name: str) -> None:
        self._blocks = blocks
        self.name = name
        self.block_size = 0  # tokens; 0 until something was stored
        self.is_whole = False  # whether nothing is there that wasn't told
        self._device = _Tier()
        self._lower: dict[str, _Tier] = {}  # by medium
        self._useless_groups: set[int] = set()
        self.counts = {"stored": 0, "removed": 0, "cleared": 0, "unknown": 0}  # events
        self.orphans = 0  # stored blocks whose beginning was never told
        self.on_their_way = OnTheirWay()

    @property
    def size(self) -> int:
        """Return how many blocks it holds on the device."""
        return len(self._device.names)

    def apply(self, events: Sequence[KvEvent], unknown: int = 0, *, goes_on: bool = False) -> None:
        """Take in what happened, with the next ``EngineBlocks.flush``.

        ``goes_on``: they are the rest of a batch some of which was stored before. What a batch stores first says which
        block size is its cache's.
        """
        self.counts["unknown"] += unknown
        steps = steps_of(events)
        first = None if goes_on else next((step for step in steps if isinstance(step, Storing)), None)
        if first is not None and first.event.block_size != self.block_size:
            self._blocks.flush()
            self._begin(first.event.block_size)
        self._blocks.queue(self, steps)

    def gather(self, steps: Sequence[Step], ids: array[int]) -> int:
        """Move the tokens of all blocks that can be told apart by them into ``ids``. Returns the number of all blocks.

        What is left in the events is small: tokens would be out of the processor's caches when they are freed later.
        """
        size, blocks = self.block_size, 0
        for step in steps:
            if not isinstance(step, Storing):
                blocks += len(step.blocks) if isinstance(step, Removing) else 0
                continue
            event = step.event
            count, tokens = len(event.block_hashes), event.token_ids
            blocks += count
            if event.block_size == size and len(tokens) == size * count:
                try:
                    ids.fromlist(tokens)  # all, or none
                except (OverflowError, TypeError):  # tokens without a number that a prompt could have
                    pass
                else:
                    step.good = count
            tokens.clear()  # else it is of a window, say, of which some blocks aren't kept
        return blocks

    def take(self, steps: Sequence[Step], hashes: Iterator[int]) -> None:
        """Take in what happened. ``hashes`` gives those of all good blocks, in order."""
        told: list[int] | None = [] if self.on_their_way else None
        for step in steps:
            if isinstance(step, Storing):
                self._store(step.event, list(islice(hashes, step.good)), told)
            elif isinstance(step, Removing):
                self._remove(step)
            else:
                self.clear()
        if told:
            self.on_their_way.settle(told)

    def forget(self) -> None:
        """Nothing is known any more, and what was sent up to now isn't awaited."""
        self._blocks.flush()
        self._forget_blocks()
        self._useless_groups.clear()
        self.on_their_way.give_up(self._blocks.clock())
        self.is_whole = False

    def begin(self) -> None:
        """The engine holds nothing but what will be told from now on."""
        self.is_whole = True

    def clear(self) -> None:
        """The engine has forgotten all."""
        self.counts["cleared"] += 1
        self._forget_blocks()
        self.is_whole = True

    # storing

    def _begin(self, size: int) -> None:
        """Go on with another block size, if it is one."""
        if size != self.block_size and 1 <= size <= MAX_BLOCK_SIZE:
            if self.block_size:
                self._forget_blocks()
            self.block_size = size
            self.on_their_way.settle((0,))  # the first word: of what was sent before

    def _store(self, event: BlockStored, hashes: list[int], told: list[int] | None) -> None:
        """Take stored blocks in, each named by ``hashes`` and what it follows on."""
        self.counts["stored"] += 1
        if event.group_idx is not None and (event.kv_cache_spec_kind or "") not in USABLE_KINDS:
            self._useless_groups.add(event.group_idx)
            return
        tier = self._tier(event.medium)
        name = self._parent(event, tier)
        if name is None or not hashes or self.size >= MAX_BLOCKS_OF_ONE:
            self.orphans += len(event.block_hashes)
            return
        if event.cache_salt or (event.extra_keys is not None and any(event.extra_keys)):
            _salt(hashes, event)
        chain = []
        for each in hashes:
            name = (name * FACTOR + each) & MASK
            chain.append(name)
        tier.store(event.block_hashes, chain)
        if told is not None:
            told += chain

    def _parent(self, event: BlockStored, tier: _Tier) -> int | None:
        """Return the name of what the stored blocks follow on; None when it was never told."""
        parent = event.parent_block_hash
        if parent is None:
            return self._blocks.seed_of(event.lora_name) if event.lora_name else 0
        name = tier.names.get(parent)
        if name is not None:
            return name
        for other in (self._device, *self._lower.values()):
            name = other.names.get(parent)
            if name is not None:
                return name
        return None

    def _tier(self, medium: str | None) -> _Tier:
        if medium is None or medium == DEVICE:
            return self._device
        tier = self._lower.get(medium)
        if tier is None:
            tier = self._lower[medium] = _Tier()
        return tier

    # removing

    def _remove(self, step: Removing) -> None:
        """Let a medium hold these no more. An engine tells each by an event of its own, so they are counted as such."""
        self.counts["removed"] += len(step.blocks)
        if step.group not in self._useless_groups:
            self._tier(step.medium).remove(step.blocks)

    def _forget_blocks(self) -> None:
        self._device, self._lower = _Tier(), {}

    # looking up

    def held(self, names: Sequence[int]) -> Held:
        """Return how many blocks of a prompt's beginning it holds, whose prefixes have these ``names``."""
        on_device = _depth(names, self._device.held)
        return Held(self._anywhere(names, on_device) if self._lower else on_device, on_device)

    def _anywhere(self, names: Sequence[int], depth: int) -> int:
        held = [self._device.held, *(tier.held for tier in self._lower.values())]
        while depth < len(names) and any(names[depth] in each for each in held):
            depth += 1
        return depth

    def __repr__(self) -> str:
        return f"<EngineCache {self.name} {self.size} blocks of {self.block_size} tokens, whole={self.is_whole}>"


class EngineBlocks:
    """All caches whose engines tell."""

    def __init__(self, clock: Callable[[], float], seed_of: SeedOf = lambda name: salt_of(name.encode())) -> None:
        self.clock = clock
        self.seed_of = seed_of
        self.caches: dict[str, EngineCache] = {}  # by name; changed here only
        self._hashers: dict[int, ChainHasher] = {}
        self._queue: list[tuple[EngineCache, Sequence[Step]]] = []  # what caches didn't take in yet
        self._queued = self._queued_blocks = 0  # steps of it, blocks in them
        self._ids: dict[int, array[int]] = {}  # the tokens of its blocks, by their size

    def cache(self, name: str) -> EngineCache:
        """Return the cache called ``name``, a new one if there is none."""
        cache = self.caches.get(name)
        if cache is None:
            cache = self.caches[name] = EngineCache(self, name)
        return cache

    def remove(self, name: str) -> None:
        """Nothing will be told of a cache any more."""
        self.flush()
        self.caches.pop(name, None)

    def queue(self, cache: EngineCache, steps: Sequence[Step]) -> None:
        """Let ``cache`` take in what it was told, with others: hashing costs by the call more than by the block."""
        ids = self._ids.get(cache.block_size)
        if ids is None:
            ids = self._ids[cache.block_size] = array("I")
        self._queued_blocks += cache.gather(steps, ids)
        self._queue.append((cache, steps))
        self._queued += len(steps)
        if len(self._queue) >= TOGETHER or self._queued >= MANY or self._queued_blocks >= MANY_BLOCKS:
            self.flush()

    def flush(self) -> None:
        """Let caches take in what they were told."""
        queue, self._queue = self._queue, []
        self._queued = self._queued_blocks = 0
        ids, self._ids = self._ids, {}
        hashes = {size: iter(self.hasher(size).of_blocks(each) if each else ()) for size, each in ids.items()}
        for cache, steps in queue:
            cache.take(steps, hashes[cache.block_size])

    def hasher(self, block_size: int) -> ChainHasher:
        """Return what hashes blocks of that size."""
        hasher = self._hashers.get(block_size)
        if hasher is None:
            hasher = self._hashers[block_size] = ChainHasher(block_size)
        return hasher

    def __repr__(self) -> str:
        return f"<EngineBlocks of {len(self.caches)} caches>"


def _depth(names: Sequence[int], held: Set[int]) -> int:
    """Return how many of ``names`` are held: all, or those before the first that isn't."""
    if not names or names[0] not in held:
        return 0
    if names[-1] in held:
        return len(names)
    low, high = 1, len(names)
    while high - low > 1:
        middle = (low + high) // 2
        if names[middle - 1] in held:
            low = middle
        else:
            high = middle
    return low


def _salt(hashes: list[int], event: BlockStored) -> None:
    """Let blocks that have more than tokens to them (an image, a salt) have names that no plain prompt has."""
    plain: tuple[object, ...] = (None, [], [event.lora_name])
    for at, extra in enumerate((event.extra_keys or ())[: len(hashes)]):
        if extra not in plain:
            hashes[at] = (hashes[at] + (salt_of(msgspec.msgpack.encode(extra)) | 1)) & MASK
    if event.cache_salt and event.parent_block_hash is None:
        hashes[0] = (hashes[0] + (salt_of(event.cache_salt.encode()) | 1)) & MASK
