"""An instance's prefix cache: which leading blocks of a prompt need no prefill any more."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence


class PrefixCache:
    """Least recently used blocks, each known by a hash that chains all blocks before it.

    Holds at most ``capacity_tokens`` tokens. Blocks that running requests use aren't pinned.
    """

    __slots__ = ("_blocks", "_capacity", "used_tokens")

    def __init__(self, capacity_tokens: int) -> None:
        self._capacity = capacity_tokens
        self._blocks: OrderedDict[int, int] = OrderedDict()  # block hash → tokens; the first is evicted first
        self.used_tokens = 0

    def match(self, blocks: Sequence[int]) -> int:
        """Return how many leading ``blocks`` are held, without counting as a use of them."""
        held = self._blocks
        for index, block in enumerate(blocks):
            if block not in held:
                return index
        return len(blocks)

    def insert(self, blocks: Sequence[int], block_tokens: int) -> None:
        """Hold ``blocks`` of ``block_tokens`` tokens each, as the most recently used ones; evict what doesn't fit.

        Of a prompt larger than the whole cache the leading blocks are kept: only they can be matched again.
        """
        # From the last to the first, so that a chain is evicted from its end: a block is useless without those before.
        for block in reversed(blocks[: self._capacity // block_tokens]):
            if block in self._blocks:
                self._blocks.move_to_end(block)
            else:
                self._blocks[block] = block_tokens
                self.used_tokens += block_tokens
        while self.used_tokens > self._capacity:
            block, tokens = self._blocks.popitem(last=False)
            self.used_tokens -= tokens
            self.on_evicted(block)

    def on_evicted(self, block: int) -> None:
        """A block is held no more."""

    def clear(self) -> None:
        """Hold nothing any more."""
        self._blocks.clear()
        self.used_tokens = 0

    def __len__(self) -> int:
        return len(self._blocks)

    def __repr__(self) -> str:
        return f"<PrefixCache {len(self._blocks)} blocks, {self.used_tokens}/{self._capacity} tokens>"
