"""Scenario: how much of the prompts two servers have cached, beside one with both caches; and what the router knew.

Hits are vLLM's own counters (``vllm:prefix_cache_hits_total`` of ``…_queries_total``, tokens). "One with both caches"
is a server of its own, with as many blocks as the two have together, which is sent the same requests.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import httpx
from bench import MODEL, Bench, Finding, Router, Served, Server, cache_options, told_options
from conversations import Conversations
from processes import wait_until

BLOCKS = 129
"""Of each of the two servers: 4,096 tokens, and one block that vLLM keeps for itself."""

GOAL = 0.95
"""Hits of conversations, of those of the one server. Which prompts are hit, of many that don't grow, goes by their
order, and two at a time change that: there only what is known beforehand is judged.
"""

POINTS = 5.0
"""By how much what was thought to be cached may differ from what was, of all tokens."""

TRAFFIC: Mapping[str, Conversations] = {
    "8 conversations, one request at a time": Conversations(8, rounds=5, system=40, turn=40, at_once=1),
    "11 conversations, two at a time": Conversations(11, rounds=4, system=40, turn=80, at_once=2),
    "16 prompts thrice, one at a time": Conversations(16, rounds=3, system=0, turn=900, grow=False, at_once=1),
    "16 prompts thrice, two at a time": Conversations(16, rounds=3, system=0, turn=900, grow=False, at_once=2),
}
"""In the end they need 5,000, 8,500 and 14,000 tokens of cache; the two servers have 8,192."""

POLICIES: Mapping[str, Mapping[str, Any]] = {
    "round_robin": {"policy": "round_robin"},
    "ttft_aware, by what was sent": {"policy": "ttft_aware", "kv-events": "off"},
    "ttft_aware, KV events": {"policy": "ttft_aware", "kv-events": "on"},
    "cache_aware, by what was sent": {"policy": "cache_aware", "kv-events": "off"},
    "cache_aware, KV events": {"policy": "cache_aware", "kv-events": "on"},
}


TRUTH = "fd_router_prefix_index_truth_tokens_total"


class Tokens(NamedTuple):
    """Tokens of prompts, and how many of them were cached."""

    asked: float
    cached: float

    @property
    def percent(self) -> float:
        return 100 * self.cached / max(1.0, self.asked)


def prefix_hits(bench: Bench) -> Iterator[Finding]:
    """Play each traffic to the one server, and through a router of each policy to the two."""
    one, *two = bench.start(
        *[cache_options(blocks) for blocks in (2 * BLOCKS - 1, BLOCKS, BLOCKS)],
        environment={"VLLM_SERVER_DEV_MODE": "1"},
    )
    for name, traffic in TRAFFIC.items():
        alone = play(traffic, one.url, [one])
        yield Finding(
            f"{name}: one server with both caches", True, f"{alone.percent:.1f} % of {alone.asked:.0f} tokens"
        )
        for policy, options in POLICIES.items():
            yield from compare(bench, f"{name}: {policy}", traffic, two, options, alone)
    for server in (one, *two):
        server.end()


def compare(
    bench: Bench,
    what: str,
    traffic: Conversations,
    servers: Sequence[Server],
    options: Mapping[str, Any],
    alone: Tokens,
) -> Iterator[Finding]:
    """Play it through a router; KV events must bring the goal, and hits must be known beforehand."""
    router = bench.router(servers, scheduler=told_options(servers[0], **options))
    is_told = options.get("kv-events") == "on"
    if is_told and not wait_until(lambda: metric(router, "fd_router_kv_events_whole") == len(servers), 30.0):
        raise RuntimeError("KV events aren't followed")
    hits = play(traffic, router.url, servers)
    share = hits.percent / alone.percent if alone.percent else 1.0
    wanted = GOAL if is_told and options["policy"] == "ttft_aware" and traffic.grow else 0.0
    yield Finding(what, share >= wanted, f"{hits.percent:.1f} %, {share:.0%} of one server's")
    if is_told:
        known = Tokens(*(metric(router, TRUTH, f'kind="{kind}"') for kind in ("prompt", "held")))
        close = abs(known.percent - hits.percent) <= POINTS
        yield Finding(f"{what}: known beforehand", close, f"{known.percent:.1f} % of {known.asked:.0f} tokens")
    router.end()


def play(traffic: Conversations, url: str, servers: Sequence[Server]) -> Tokens:
    """Play it before empty caches; return what the servers counted."""
    for server in servers:
        httpx.post(f"{server.url}/reset_prefix_cache", timeout=30).raise_for_status()
        short = {"model": MODEL, "prompt": "a", "max_tokens": 1}  # less than a block
        httpx.post(f"{server.url}/v1/completions", json=short, timeout=120).raise_for_status()
    time.sleep(0.5)  # a server tells of the flush with its next step
    before = counted(servers)
    traffic.play(url)
    after = counted(servers)
    return Tokens(after.asked - before.asked, after.cached - before.cached)


def counted(servers: Sequence[Served]) -> Tokens:
    """Return what servers have counted since they began."""
    names = ("vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total")
    return Tokens(*(sum(server.metric(name) for server in servers) for name in names))


def metric(router: Router, name: str, labels: str = "") -> float:
    """Return the sum of the router's samples of that name that have ``labels`` among theirs."""
    lines = httpx.get(f"{router.url}/metrics", timeout=10).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{") and labels in line)
