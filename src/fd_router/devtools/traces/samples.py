"""Sample traces, made by chance: one kind of traffic each, as numbers in the form of Mooncake's traces.

The same seed makes the same trace. Lengths are log-normal, as those of published traces roughly are; sessions come as
a Poisson process of one request a second, which a simulation scales to the load that it wants.
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from fd_router.devtools.traces.trace import TraceRequest

BLOCK_TOKENS = 64
"""Tokens of a block: finer than Mooncake's, so that short prompts share what they share."""

LONG_BLOCK_TOKENS = 256
"""The same where prompts are long."""


class _Writer:
    """Collects requests; hands out numbers for blocks, each of which is used once."""

    def __init__(self, seed: int, block_tokens: int = BLOCK_TOKENS) -> None:
        self.rng = random.Random(seed)
        self._size = block_tokens
        self._next = 0
        self._found: list[tuple[float, int, int, list[int], str]] = []

    def blocks(self, tokens: int) -> list[int]:
        """Return ids of so many new full blocks as ``tokens`` have."""
        first, self._next = self._next, self._next + tokens // self._size
        return list(range(first, self._next))

    def length(self, median: float, sigma: float, least: int = 8, most: int = 200_000) -> int:
        """Draw a length in tokens."""
        return max(least, min(most, round(median * math.exp(self.rng.gauss(0.0, sigma)))))

    def add(self, at: float, prefix: Sequence[int], own_tokens: int, output: int, session: str) -> list[int]:
        """One request: ``prefix`` and behind it tokens that nobody has used. Returns the blocks of its prompt."""
        ids = [*prefix, *self.blocks(own_tokens)]
        self._found.append((at, len(prefix) * self._size + own_tokens, output, ids, session))
        return ids

    def first(self, number: int) -> list[TraceRequest]:
        """Return the first requests in the order of their times, the first at 0."""
        self._found.sort(key=lambda each: each[0])
        begin = self._found[0][0]
        return [
            TraceRequest(line, at - begin, tokens, output, ids, self._size, session)
            for line, (at, tokens, output, ids, session) in enumerate(self._found[:number], 1)
        ]


def _poisson(rng: random.Random, rate: float = 1.0) -> Iterator[float]:
    """Give the times of a Poisson process."""
    at = 0.0
    while True:
        at += rng.expovariate(rate)
        yield at


def chat(number: int, seed: int = 0) -> list[TraceRequest]:
    """Ordinary chat: one system prompt of 2,500 tokens for all, a question of 80 tokens or so, 300 tokens of answer."""
    writer = _Writer(seed)
    system = writer.blocks(2500)
    for turn, at in enumerate(itertools.islice(_poisson(writer.rng), number)):
        writer.add(at, system, writer.length(80, 0.8), writer.length(270, 0.45), f"user-{turn}")
    return writer.first(number)


def tenants(number: int, seed: int = 0) -> list[TraceRequest]:
    """40 tenants, each with a system prompt of 500 to 8,000 tokens, asking as often as a Zipf law of 1.1 says."""
    writer = _Writer(seed)
    prompts = [writer.blocks(writer.length(2000, 0.7, 500, 8000)) for _ in range(40)]
    shares = list(itertools.accumulate(1 / rank**1.1 for rank in range(1, len(prompts) + 1)))
    for at in itertools.islice(_poisson(writer.rng), number):
        tenant = bisect.bisect(shares, writer.rng.random() * shares[-1])
        writer.add(at, prompts[tenant], writer.length(150, 0.9), writer.length(200, 0.6), f"tenant-{tenant}")
    return writer.first(number)


def agents(number: int, seed: int = 0) -> list[TraceRequest]:
    """Agents with one of eight tool prompts of 3,000 tokens; each of some ten calls adds about 600 tokens."""
    writer = _Writer(seed, LONG_BLOCK_TOKENS)
    tools = [writer.blocks(3000) for _ in range(8)]
    calls = 10
    for session, begin in enumerate(itertools.islice(_poisson(writer.rng, 1 / calls), number // calls + 50)):
        at, context = begin, writer.rng.choice(tools)
        for _ in range(1 + int(writer.rng.expovariate(1 / calls))):
            output = writer.length(120, 0.7)
            context = writer.add(at, context, writer.length(450, 0.8), output, f"agent-{session}")
            context = [*context, *writer.blocks(output)]  # the answer is part of the next prompt
            at += writer.rng.expovariate(1 / 20)
    return writer.first(number)


def documents(number: int, seed: int = 0) -> list[TraceRequest]:
    """Long documents, of 20,000 tokens or so, each asked about 1 to 5 times within minutes."""
    writer = _Writer(seed, LONG_BLOCK_TOKENS)
    for session, begin in enumerate(itertools.islice(_poisson(writer.rng, 1 / 3), number // 3 + 50)):
        at, text = begin, writer.blocks(writer.length(20_000, 0.8, 2000, 120_000))
        for _ in range(writer.rng.randint(1, 5)):
            writer.add(at, text, writer.length(60, 0.6), writer.length(250, 0.7), f"document-{session}")
            at += writer.rng.expovariate(1 / 60)
    return writer.first(number)


def bursts(number: int, seed: int = 0) -> list[TraceRequest]:
    """The tenants' chat, but half of it in bursts: 40 requests within the time in which 5 come else."""
    writer = _Writer(seed)
    prompts = [writer.blocks(writer.length(1500, 0.7, 500, 6000)) for _ in range(12)]
    at = 0.0
    for place in range(number):
        is_burst = place // 40 % 2 == 1
        at += writer.rng.expovariate(8.0 if is_burst else 0.5333)
        tenant = min(len(prompts) - 1, int(writer.rng.expovariate(0.4)))
        writer.add(at, prompts[tenant], writer.length(150, 0.9), writer.length(200, 0.6), f"tenant-{tenant}")
    return writer.first(number)


def strangers(number: int, seed: int = 0) -> list[TraceRequest]:
    """Nothing is shared: prompts of 1,000 tokens or so, a few very long ones among them."""
    writer = _Writer(seed)
    for turn, at in enumerate(itertools.islice(_poisson(writer.rng), number)):
        writer.add(at, [], writer.length(1000, 1.3), writer.length(220, 0.7), f"user-{turn}")
    return writer.first(number)


SAMPLES: Mapping[str, Callable[[int, int], list[TraceRequest]]] = MappingProxyType({
    "chat": chat,
    "tenants": tenants,
    "agents": agents,
    "documents": documents,
    "bursts": bursts,
    "strangers": strangers,
})  # fmt: skip
"""All kinds by name: functions of how many requests, and a seed."""
