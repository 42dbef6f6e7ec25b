"""Engine blocks: what the prefix caches of engines hold, as they tell by events.

One table has, by the name of a prefix (``chain_hashes``), two bits for each cache that holds its last block: one for
anywhere, one for the device's own memory. A cache keeps, by the engine's hash of a block, under which name it stands
there, which removals and children ask for. An engine may store a block twice (two prompts computed at once) and tells
each removal, so copies are counted.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from fd_router.engines.kv_events import DEVICE, USABLE_KINDS, BlockHash, BlockRemoved, BlockStored, KvEvent
from fd_router.scheduling.prefix.chain_hashes import FACTOR, MASK, ChainHasher, salt_of

MAX_BLOCKS_OF_ONE: Final = 4_000_000
"""Of one cache; an engine that tells of more tells nonsense, and may not fill the memory."""

MAX_BLOCK_SIZE: Final = 4096
"""Tokens; the same."""

PURGED_AT_ONCE: Final = 2000
"""Blocks of caches that were given up which are freed at once, in about 0.5 ms."""

PENDING: Final = 4096
"""Prompts on their way to one cache that are remembered."""

SeedOf = Callable[[str], int]
"""The name of an adapter → the seed of its prompts' names; see ``RequestView.cache_seed``."""


class Held(NamedTuple):
    """How many blocks of a prompt's beginning a cache holds: anywhere, and on the device."""

    anywhere: int
    on_device: int


class _Tier:
    """What one medium of a cache holds."""

    __slots__ = ("copies", "names")

    def __init__(self) -> None:
        self.names: dict[BlockHash, int] = {}
        self.copies: dict[BlockHash, int] = {}  # beyond the first


class EngineCache:
    """One cache: an instance's, or one of its ranks'. Changes by events; ``EngineBlocks`` makes it."""

    __slots__ = (
        "_blocks",
        "_device",
        "_lower",
        "_useless_groups",
        "anywhere_bit",
        "block_size",
        "both",
        "counts",
        "device_bit",
        "is_whole",
        "name",
        "number",
        "orphans",
        "pending",
        "settled",
    )  # fmt: skip

    def __init__(self, blocks: EngineBlocks, name: str, number: int) -> None:
        self._blocks = blocks
        self.name = name
        self.number = number
        self.device_bit, self.anywhere_bit, self.both = _bits(number)
        self.block_size = 0  # tokens; 0 until something was stored
        self.is_whole = False  # whether nothing is there that wasn't told
        self._device = _Tier()
        self._lower: dict[str, _Tier] = {}  # by medium
        self._useless_groups: set[int] = set()
        self.counts = {"stored": 0, "removed": 0, "cleared": 0, "unknown": 0}  # events
        self.orphans = 0  # stored blocks whose beginning was never told
        self.pending: dict[int, float] = {}  # name of a whole prompt that was sent → when
        self.settled = 0.0  # what was sent up to then has been told

    @property
    def size(self) -> int:
        """Return how many blocks it holds on the device."""
        return len(self._device.names)

    def apply(self, events: Sequence[KvEvent], unknown: int = 0) -> None:
        """Take in what happened."""
        counts = self.counts
        counts["unknown"] += unknown
        stored = [event for event in events if isinstance(event, BlockStored)]
        sizes, hashes = self._hash(stored)
        told: list[int] | None = [] if self.pending else None
        index = at = 0
        for event in events:
            if isinstance(event, BlockRemoved):
                self._remove(event)
            elif isinstance(event, BlockStored):
                end = at + sizes[index]
                self._store(event, hashes[at:end], told)
                index, at = index + 1, end
            else:
                self.clear()
        if told:
            self._settle(told)

    def forget(self) -> None:
        """Nothing is known any more, and what was sent up to now isn't awaited."""
        self._forget_blocks()
        self._useless_groups.clear()
        self.pending.clear()
        self.settled = self._blocks.clock()
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

    def _hash(self, stored: Sequence[BlockStored]) -> tuple[Sequence[int], list[int]]:
        """Hash the tokens of all stored blocks at once. Returns how many blocks of each event are good, and hashes."""
        if not stored:
            return (), []
        self.counts["stored"] += len(stored)
        self._begin(stored[0].block_size)
        size, ids = self.block_size, array("I")
        sizes = []
        for event in stored:
            blocks = len(event.block_hashes)
            if event.block_size == size and len(event.token_ids) == size * blocks:
                try:
                    ids += array("I", event.token_ids)
                except (OverflowError, TypeError):  # tokens without a number that a prompt could have
                    blocks = 0
            else:  # of a window, say, of which some blocks aren't kept
                blocks = 0
            sizes.append(blocks)
        return sizes, self._blocks.hasher(size).of_blocks(ids) if ids else []

    def _begin(self, size: int) -> None:
        """Go on with another block size, if it is one."""
        if size != self.block_size and 1 <= size <= MAX_BLOCK_SIZE:
            if self.block_size:
                self._forget_blocks()
            self.block_size = size
            self.settled = max(self.settled, self.pending.pop(0, 0.0))  # the first word: of what was sent before

    def _store(self, event: BlockStored, hashes: list[int], told: list[int] | None) -> None:
        """Take stored blocks in, each named by ``hashes`` and what it follows on."""
        if event.group_idx is not None and (event.kv_cache_spec_kind or "") not in USABLE_KINDS:
            self._useless_groups.add(event.group_idx)
            return
        tier = self._tier(event.medium)
        name = self._parent(event, tier)
        if name is None or not hashes or self.size >= MAX_BLOCKS_OF_ONE:
            self.orphans += len(event.block_hashes)
            return
        if event.extra_keys is not None or event.cache_salt:
            _salt(hashes, event)
        table = self._blocks.table
        get, bits = table.get, self.both if tier is self._device else self.anywhere_bit
        chain = []
        for each in hashes:
            name = (name * FACTOR + each) & MASK
            table[name] = get(name, 0) | bits
            chain.append(name)
        names = tier.names
        if not names.keys().isdisjoint(event.block_hashes):
            for block in event.block_hashes:
                if block in names:
                    tier.copies[block] = tier.copies.get(block, 0) + 1
        names.update(zip(event.block_hashes, chain, strict=True))
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

    def _remove(self, event: BlockRemoved) -> None:
        self.counts["removed"] += 1
        if event.group_idx in self._useless_groups:
            return
        tier = self._tier(event.medium)
        table = self._blocks.table
        for block in event.block_hashes:
            if tier.copies and block in tier.copies:
                self._remove_copy(tier, block)
                continue
            name = tier.names.pop(block, None)
            if name is None:
                continue
            bits = self.both
            if self._lower and self._is_elsewhere(tier, block):
                if tier is not self._device:
                    continue
                bits = self.device_bit
            mask = table.get(name, 0) & ~bits
            if mask:
                table[name] = mask
            else:
                table.pop(name, None)

    @staticmethod
    def _remove_copy(tier: _Tier, block: BlockHash) -> None:
        tier.copies[block] -= 1
        if not tier.copies[block]:
            del tier.copies[block]

    def _is_elsewhere(self, tier: _Tier, block: BlockHash) -> bool:
        return any(block in other.names for other in (self._device, *self._lower.values()) if other is not tier)

    def _forget_blocks(self) -> None:
        """Hold nothing; the table is cleaned later, under another number."""
        tiers = (self._device, *self._lower.values())
        self._device, self._lower = _Tier(), {}
        self._blocks.renumber(self, [tier.names for tier in tiers if tier.names])

    # prompts on their way

    def sent(self, name: int, now: float) -> None:
        """Note that a prompt was sent there of which not all is held; ``name``: of its last block, 0: not known yet."""
        if len(self.pending) >= PENDING:
            del self.pending[next(iter(self.pending))]
        self.pending[name] = now

    def _settle(self, told: list[int]) -> None:
        for name in self.pending.keys() & set(told):
            self.settled = max(self.settled, self.pending.pop(name))

    def __repr__(self) -> str:
        return f"<EngineCache {self.name} {self.size} blocks of {self.block_size} tokens, whole={self.is_whole}>"


class EngineBlocks:
    """The table, and the caches in it."""

    def __init__(self, clock: Callable[[], float], seed_of: SeedOf = lambda name: salt_of(name.encode())) -> None:
        self.table: dict[int, int] = {}
        self.clock = clock
        self.seed_of = seed_of
        self.caches: dict[str, EngineCache] = {}  # by name; changed here only
        self._by_number: dict[int, EngineCache] = {}
        self._given_up: list[tuple[int, list[dict[BlockHash, int]]]] = []  # number, names that still stand in the table
        self._hashers: dict[int, ChainHasher] = {}

    def cache(self, name: str) -> EngineCache:
        """Return the cache called ``name``, a new one if there is none."""
        cache = self.caches.get(name)
        if cache is None:
            cache = self.caches[name] = EngineCache(self, name, self._free_number())
            self._by_number[cache.number] = cache
        return cache

    def remove(self, name: str) -> None:
        """Nothing will be told of a cache any more."""
        cache = self.caches.pop(name, None)
        if cache is not None:
            cache.forget()
            del self._by_number[cache.number]

    def hasher(self, block_size: int) -> ChainHasher:
        """Return what hashes blocks of that size."""
        hasher = self._hashers.get(block_size)
        if hasher is None:
            hasher = self._hashers[block_size] = ChainHasher(block_size)
        return hasher

    def held(self, names: Sequence[int]) -> dict[str, Held]:
        """Return which caches hold how many blocks of a prompt's beginning, whose prefixes have these ``names``."""
        found: dict[str, Held] = {}
        on_device: dict[int, int] = {}  # number → blocks
        for depth, bits in self._drops(names):
            left = bits
            while left:
                bit = left & -left
                left ^= bit
                number, is_last = divmod(bit.bit_length() - 1, 2)
                if not is_last:  # the device's bit, which ends before the other, or comes before it
                    on_device[number] = depth
                elif (cache := self._by_number.get(number)) is not None:
                    found[cache.name] = Held(depth, on_device.get(number, 0))
        return found

    def _drops(self, names: Sequence[int]) -> list[tuple[int, int]]:
        """Return (blocks held, bits that end there), the fewest first."""
        drops: list[tuple[int, int]] = []
        alive = self.table.get(names[0], 0) if names else 0
        if not alive:
            return drops
        depth = 0
        for depth, mask in enumerate(map(self.table.get, names)):
            if mask == alive:
                continue
            kept = alive & mask if mask is not None else 0
            if kept != alive:
                drops.append((depth, alive & ~kept))
                alive = kept
                if not alive:
                    return drops
        drops.append((len(names), alive))
        return drops

    # numbers

    def renumber(self, cache: EngineCache, names: list[dict[BlockHash, int]]) -> None:
        """Give ``cache`` another number: what stands in the table under its old one is no word of it any more."""
        if not names:
            return
        self._given_up.append((cache.number, names))
        del self._by_number[cache.number]
        number = self._free_number()
        cache.number = number
        cache.device_bit, cache.anywhere_bit, cache.both = _bits(number)
        self._by_number[number] = cache

    def purge(self, most: int = PURGED_AT_ONCE) -> bool:
        """Clean the table of caches that were given up, ``most`` blocks at a time. Returns whether there is more."""
        while self._given_up and most > 0:
            number, left = self._given_up[-1]
            bits = 3 << 2 * number
            names = left[-1]
            while names and most > 0:
                _, name = names.popitem()
                mask = self.table.get(name, 0) & ~bits
                if mask:
                    self.table[name] = mask
                else:
                    self.table.pop(name, None)
                most -= 1
            if not names:
                left.pop()
                if not left:
                    self._given_up.pop()
        return bool(self._given_up)

    def _free_number(self) -> int:
        taken = self._by_number.keys() | {number for number, _ in self._given_up}
        number = 0
        while number in taken:
            number += 1
        return number

    def __repr__(self) -> str:
        return f"<EngineBlocks {len(self.table)} prefixes of {len(self.caches)} caches>"


def _salt(hashes: list[int], event: BlockStored) -> None:
    """Let blocks that have more than tokens to them (an image, a salt) have names that no plain prompt has."""
    plain: tuple[object, ...] = (None, [], [event.lora_name])
    for at, extra in enumerate((event.extra_keys or ())[: len(hashes)]):
        if extra not in plain:
            hashes[at] = (hashes[at] + (salt_of(msgspec.msgpack.encode(extra)) | 1)) & MASK
    if event.cache_salt and event.parent_block_hash is None:
        hashes[0] = (hashes[0] + (salt_of(event.cache_salt.encode()) | 1)) & MASK


def _bits(number: int) -> tuple[int, int, int]:
    """Return the bits of the cache with this number: on the device, anywhere, both."""
    return 1 << 2 * number, 2 << 2 * number, 3 << 2 * number
