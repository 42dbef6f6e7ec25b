"""The prefix index as one would write it without caring what it costs: a table of (instance, block) → time of use."""

from __future__ import annotations

import math


class NaiveIndex:
    """The model that ``PrefixIndex`` must agree with. Prompts are tuples; a block is named by its whole prefix."""

    def __init__(self, max_blocks: int, duration: float) -> None:
        self.max_blocks = max_blocks
        self.duration = duration
        self.used: dict[tuple[str, tuple[int, ...]], float] = {}
        self.limits: dict[str, float] = {}

    def blocks(self) -> int:
        return len({prefix for _, prefix in self.used})

    def blocks_of(self, name: str) -> int:
        return sum(holder == name for holder, _ in self.used)

    def depth(self, name: str, prompt: tuple[int, ...]) -> int:
        return max((length for length in range(len(prompt) + 1) if (name, prompt[:length]) in self.used), default=0)

    def insert(self, name: str, prompt: tuple[int, ...], now: float) -> None:
        for length in range(1, len(prompt) + 1):
            self.used[name, prompt[:length]] = now
        while self.blocks_of(name) > self.limits.get(name, math.inf):
            self.drop_oldest(name)
        while self.blocks() > self.max_blocks:
            self.drop_oldest()

    def set_limit(self, name: str, limit: int) -> None:
        self.limits[name] = limit
        while self.blocks_of(name) > limit:
            self.drop_oldest(name)

    def drop_oldest(self, name: str | None = None) -> None:
        """Drop the tag used least recently; of one path its end."""
        tags = [tag for tag in self.used if name in (None, tag[0])]
        del self.used[min(tags, key=lambda tag: (self.used[tag], -len(tag[1])))]

    def remove(self, name: str) -> None:
        self.limits.pop(name, None)
        for tag in [tag for tag in self.used if tag[0] == name]:
            del self.used[tag]

    def sweep(self, now: float) -> None:
        for tag in [tag for tag, used in self.used.items() if used <= now - self.duration]:
            del self.used[tag]
