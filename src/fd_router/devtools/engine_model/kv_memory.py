"""KV memory: the blocks that running requests hold, and behind them, in what is left, the prefix cache.

As vLLM's block pool: a block of a running prompt is counted once however many share it; one that nobody uses any more
stays as a cache until its memory is needed, least recently used first.
"""

from __future__ import annotations

from collections import OrderedDict

from fd_router.devtools.engine_model.prompts import Prompt
from fd_router.devtools.engine_model.runs import Run

WATERMARK = 0.01
"""Share of the memory that a request which begins leaves free, so that it isn't preempted at once (vLLM's)."""


class KvMemory:
    """``capacity`` tokens. ``is_shared``: running requests take of it, else it is a cache alone."""

    __slots__ = ("_capacity", "_held", "_idle", "_idle_tokens", "_is_shared", "_pins", "_ready", "_used")

    def __init__(self, capacity: int, *, is_shared: bool) -> None:
        self._capacity = capacity
        self._is_shared = is_shared
        self._pins: dict[int, int] = {}  # block → how many running requests have it
        self._ready: set[int] = set()  # those of them that are computed
        self._idle: OrderedDict[int, int] = OrderedDict()  # block → tokens; the first is evicted first
        self._idle_tokens = 0
        self._used = 0  # tokens of running requests
        self._held: dict[Run, int] = {}  # of these, each request's own: what is no full block of its prompt

    @property
    def free(self) -> int:
        """Tokens that running requests may still take: what is cached only makes room."""
        return self._capacity - self._used if self._is_shared else 1 << 62

    @property
    def used_tokens(self) -> int:
        """Tokens that are cached or used."""
        return self._used + self._idle_tokens

    def match(self, prompt: Prompt) -> int:
        """Return how many tokens of a prompt's beginning are held."""
        ready, idle = self._ready, self._idle
        for index, block in enumerate(prompt.blocks):
            if block not in ready and block not in idle:
                return index * prompt.block_tokens
        return len(prompt.blocks) * prompt.block_tokens

    def take(self, run: Run, growth: int, *, is_alone: bool) -> int | None:
        """Take memory for a request that begins; return how many tokens were cached, None when it doesn't fit.

        ``growth``: tokens that those which run need for their next step. One that ``is_alone`` always fits.
        """
        prompt, size = run.prompt, run.prompt.block_tokens
        held = self.match(prompt)
        new = [block for block in prompt.blocks if block not in self._pins]
        own = max(0, prompt.tokens - len(prompt.blocks) * size) + run.produced
        need = len(new) * size + own
        if self._is_shared and not is_alone and need + growth > self.free - WATERMARK * self._capacity:
            return None
        for block in new:
            if self._idle.pop(block, None) is not None:
                self._idle_tokens -= size
                self._ready.add(block)
        for block in prompt.blocks:
            self._pins[block] = self._pins.get(block, 0) + 1
        self._held[run] = own
        self._used += need
        self._evict()
        return held

    def keep(self, run: Run) -> None:
        """A prompt is computed: from now on others may use it."""
        self._ready.update(run.prompt.blocks)

    def grow(self, run: Run, tokens: int) -> None:
        """A request has generated ``tokens``."""
        self._held[run] += tokens
        self._used += tokens
        if self._idle_tokens + self._used > self._capacity:
            self._evict()

    def release(self, run: Run) -> None:
        """A request gives its memory back; its prompt stays cached until the memory is needed."""
        size = run.prompt.block_tokens
        self._used -= self._held.pop(run)
        # From the last to the first: a chain is evicted from its end, a block is useless without those before.
        for block in reversed(run.prompt.blocks):
            self._pins[block] -= 1
            if self._pins[block]:
                continue
            del self._pins[block]
            self._used -= size
            if block in self._ready:
                self._ready.discard(block)
                self._idle[block] = size
                self._idle_tokens += size
        self._evict()

    def _evict(self) -> None:
        room = self._capacity - (self._used if self._is_shared else 0)
        while self._idle_tokens > room and self._idle:
            self._idle_tokens -= self._idle.popitem(last=False)[1]

    def __repr__(self) -> str:
        return f"<KvMemory {self._used} used, {self._idle_tokens} cached of {self._capacity} tokens>"
