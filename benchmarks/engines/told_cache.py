"""Scenario: what the router knows of a server's cache is right again soon after events were lost, or the cache was.

Right is what the server itself says: the router is asked what it thinks of a prompt (``/v1/explain``), then the server
what of it was cached.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
from bench import BLOCK, Bench, Finding, Router, Server, Silence, cache_options, told_options
from conversations import Conversations, ask
from lossy_relay import LossyRelay
from processes import free_port, wait_until

SECS = 10.0
"""Within which all is to be right again."""

LOST = 25
"""One batch in so many is lost, four times as many as would have to be borne; and the last of all."""

TRAFFIC = Conversations(number=12, rounds=12, system=20, turn=40)
"""More than is cached, so that blocks are stored and evicted all the time."""

LAST = TRAFFIC.bodies(TRAFFIC.rounds - 1)


def told_cache(bench: Bench) -> Iterator[Finding]:
    """Lose events, flush the cache, kill the server and start it anew."""
    live, replay, port = free_port(), free_port(), free_port()
    arguments, environment = cache_options(129, live, replay), {"VLLM_SERVER_DEV_MODE": "1"}
    (server,) = bench.start(arguments, environment=environment, port=port)
    with LossyRelay(live, LOST) as relay:
        events = {"endpoint": f"tcp://*:{relay.port}", "replay_endpoint": f"tcp://*:{replay}"}
        instance = {"role": "mixed", "host_ip": "127.0.0.1", "port": port, "dialect": "vllm", "kv_events": events}
        scheduler = told_options(server, policy="ttft_aware")
        router = bench.router(instances=[instance], scheduler={**scheduler, "kv-events": "on"})
        yield from _lost(router, server, relay)
        _hold(server, LAST[0])
        httpx.post(f"{server.url}/reset_prefix_cache", timeout=30).raise_for_status()
        _hold(server, LAST[1])  # it tells of the flush with its next step
        yield _soon("flushed", router, server, 0)
        yield _right("flushed", router, server)
        _hold(server, LAST[0])
        os.killpg(server.pid, signal.SIGKILL)
        server.end()
        (server,) = bench.start(arguments, environment=environment, port=port)
        yield _soon("restarted", router, server, 0)
        yield _right("restarted", router, server)
        router.end()
    server.end()


def _lost(router: Router, server: Server, relay: LossyRelay) -> Iterator[Finding]:
    TRAFFIC.play(router.url)
    relay.loses_all = True
    yield _soon(f"{relay.lost} batches lost, and the last one", router, server, _hold(server, LAST[0]))
    relay.loses_all = False
    yield _right(f"{relay.lost} of {relay.lost + relay.passed} lost", router, server)


def _hold(server: Server, body: dict[str, Any]) -> int:
    """Ask the server itself, which holds the prompt then; return how many percent of it can be found there."""
    with httpx.Client(base_url=server.url, timeout=120) as client:
        tokens = ask(client, body)["prompt"]
    return (tokens - 1) // BLOCK * BLOCK * 100 // tokens


def _soon(what: str, router: Router, server: Server, percent: int) -> Finding:
    """So much of a prompt that was held is known to be held, soon."""
    begun = time.monotonic()
    with Silence([server]) as silence:
        wait_until(lambda: thought(router, LAST[0]) == percent, 6 * SECS, every=0.2)
        took = time.monotonic() - begun
    return Finding(f"{what}: known", took < SECS + silence.secs, f"after {took:.1f} s")


def _right(what: str, router: Router, server: Server) -> Finding:
    """Ask the server, by and by, for each prompt of the last round; it has cached what the router thinks."""
    wrong = []
    with httpx.Client(base_url=server.url, timeout=120) as client:
        for body in LAST:
            percent = thought(router, body)
            told = ask(client, body)
            if percent is None or abs(percent - 100 * told["cached"] / told["prompt"]) > 1:
                wrong.append(f"{percent} % of {told}")
            time.sleep(0.3)  # until the router has heard of it
    seen = f"{len(wrong)} of {len(LAST)} wrong {wrong[:3]}"
    return Finding(f"{what}: the server has what is thought", not wrong, seen)


def thought(router: Router, body: dict[str, Any]) -> int | None:
    """Return how many percent of a prompt the only instance is known to hold, by its own word; else None."""
    answer = httpx.post(f"{router.url}/v1/explain", json=body, timeout=60).json()
    (entry,) = answer["roles"][0]["candidates"]
    percent: int | None = entry["prefix_hit_percent"]
    return percent if entry["prefix_hit_source"] == "engine" else None
