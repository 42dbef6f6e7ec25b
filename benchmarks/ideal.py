"""The least that a trace could cost: one pooled cache, one queue, the shortest uncached prompt first.

No real fleet has that: every server finds in its cache what any of them has computed, and no server is idle while a
prompt waits. Prefills aren't interrupted. What a policy reaches above it is what being many costs.
"""

from __future__ import annotations

import argparse
import heapq
import math
import sys
from collections.abc import Sequence

from fd_router.devtools.engine_model.prefix_cache import PrefixCache
from fd_router.devtools.traces.trace import TraceRequest, at_speed, read_trace, speed_for_load


def ideal_ttft(
    requests: Sequence[TraceRequest], servers: int, tokens_per_sec: float, cache_tokens: int
) -> Sequence[float]:
    """Return the times to first token, in the order of the requests."""
    pool, waits = PrefixCache(cache_tokens), [0.0] * len(requests)
    waiting: list[int] = []
    busy: list[tuple[float, int]] = []
    free, arrived, now = servers, 0, 0.0

    def uncached(place: int) -> int:
        request = requests[place]
        return max(1, request.input_tokens - pool.match(request.hash_ids) * request.block_tokens)

    while arrived < len(requests) or waiting or busy:
        while free and waiting:
            place = min(waiting, key=uncached)
            waiting.remove(place)
            heapq.heappush(busy, (now + uncached(place) / tokens_per_sec, place))
            pool.insert(requests[place].hash_ids, requests[place].block_tokens)
            free -= 1
        due = busy[0][0] if busy else math.inf
        if arrived < len(requests) and requests[arrived].at <= due:
            now = requests[arrived].at
            while arrived < len(requests) and requests[arrived].at == now:  # those that come at once are all looked at
                waiting.append(arrived)
                arrived += 1
            continue
        now, place = heapq.heappop(busy)
        free += 1
        waits[place] = now - requests[place].at
    return waits


def main() -> int:
    """Print the mean for each load."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", required=True, help="a JSONL file in Mooncake's format")
    parser.add_argument("--block-tokens", type=int, default=512, help="[512]")
    parser.add_argument("--limit", type=int, default=0, help="the first requests only [all]")
    parser.add_argument("--servers", type=int, default=8, help="[8]")
    parser.add_argument("--prefill-tokens-per-sec", type=float, default=5400.0, help="of a server [5400]")
    parser.add_argument("--cache-tokens", type=int, default=8_000_000, help="of all servers together [8000000]")
    parser.add_argument("--loads", default="0.6,0.95,1.1", help="prompts without cache over capacity [0.6,0.95,1.1]")
    arguments = parser.parse_args()
    requests = read_trace(arguments.trace, limit=arguments.limit, block_tokens=arguments.block_tokens)
    speed = arguments.prefill_tokens_per_sec
    for load in map(float, arguments.loads.split(",")):
        arrivals = at_speed(requests, speed_for_load(requests, load, arguments.servers * speed))
        waits = ideal_ttft(arrivals, arguments.servers, speed, arguments.cache_tokens)
        print(
            f"load {load:.2f}: mean {sum(waits) / len(waits):.2f} s, p99 {sorted(waits)[len(waits) * 99 // 100]:.2f} s"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
