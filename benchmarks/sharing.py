"""What sharing costs: ``python benchmarks/sharing.py [--replicas 4] [--requests 1000] [--seconds 10]``.

It needs redis-server. Each replica is a process with a registry of 16 instances and a prefix index, in which requests
with prompts of 8 KB, half of which was seen before, come and go, ``--requests`` a second in the whole set. Nothing else
runs there, so that CPU time with the bus, less the time without it, is what sharing costs. Printed are points of one
core a replica; the age of what others tell when it comes, from sending a frame to receiving it back, and with the 20 ms
that it may have waited before; and bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import uvloop
from processes import make_console

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.support.fake_log import FakeLog  # noqa: E402
from tests.support.redis_server import RedisServer  # noqa: E402

from fd_router.bus import BusHealth  # noqa: E402
from fd_router.config.live import LiveConfig  # noqa: E402
from fd_router.config.sections import Config  # noqa: E402
from fd_router.config.state import StateConfig  # noqa: E402
from fd_router.instances.registration import parse_registration  # noqa: E402
from fd_router.instances.registry import Registry  # noqa: E402
from fd_router.scheduling.prefix.block_hashes import BlockHasher  # noqa: E402
from fd_router.scheduling.prefix.told_index import ToldPrefixIndex  # noqa: E402
from fd_router.state.peers import Peers  # noqa: E402
from fd_router.state.redis.bus import RedisBus  # noqa: E402
from fd_router.state.sync import LEASE_SECONDS, Sync  # noqa: E402
from fd_router.state.topics.loads import SharedLoads  # noqa: E402
from fd_router.state.topics.prefixes import SharedPrefixes  # noqa: E402

INSTANCES = 16
PROMPT_CHARACTERS = 8192
BLOCK = 64
HOLD_SECONDS = 0.5
INTERVAL_MS = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--requests", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--replica", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.replica is not None:
        number, _, url = arguments.replica.partition(",")
        print(json.dumps(uvloop.run(_run_replica(number, url, arguments))))
        return 0

    console = make_console()
    with RedisServer() as server:
        alone, shared = (_run(arguments, url) for url in ("", server.url))
    points = [100 * (one["cpu"] - other["cpu"]) / arguments.seconds for one, other in zip(shared, alone, strict=True)]
    lags = sorted(lag for one in shared for lag in one["lags"])
    console.print(f"CPU of sharing, points of a core a replica: {', '.join(f'{point:.1f}' for point in points)}")
    without = ", ".join(f"{100 * one['cpu'] / arguments.seconds:.1f}" for one in alone)
    console.print(f"(without it {without})")
    for share in (0.5, 0.99):
        lag = 1000 * lags[int(share * (len(lags) - 1))]
        console.print(
            f"age p{share * 100:.0f}: {lag:.1f} ms from sending, {lag + INTERVAL_MS:.1f} ms with the wait before"
        )
    for way in ("sent", "received"):
        rate = sum(one[way] for one in shared) / len(shared) / arguments.seconds
        console.print(f"{way}: {rate / 1000:.0f} KB/s a replica")
    blocks = [one["blocks"] for one in shared]
    console.print(f"blocks in the index, least and most: {min(blocks)}, {max(blocks)}")
    return 0


def _run(arguments: argparse.Namespace, url: str) -> list[dict[str, Any]]:
    """Run all replicas at once; return what each measured."""
    command = [sys.executable, __file__, "--replicas", str(arguments.replicas), "--requests", str(arguments.requests)]
    command += ["--seconds", str(arguments.seconds)]
    started = [
        subprocess.Popen([*command, "--replica", f"{number},{url}"], stdout=subprocess.PIPE)
        for number in range(arguments.replicas)
    ]
    return [json.loads(one.communicate(timeout=arguments.seconds + 60)[0]) for one in started]


async def _run_replica(number: str, url: str, arguments: argparse.Namespace) -> dict[str, Any]:
    return await _Replica(number, url, arguments).run()


class _Counters:
    """Counts bytes and keeps lags."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.lags: list[float] = []
        self.bytes = {"sent": 0, "received": 0}

    def sent(self, size: int) -> None:
        self.bytes["sent"] += size

    def received(self, size: int) -> None:
        self.bytes["received"] += size

    def unreadable(self, why: str) -> None:
        raise RuntimeError(why)

    def lagged(self, seconds: float) -> None:
        self.lags.append(seconds)

    def failed(self) -> None:
        pass


class _Replica:
    """One replica: number and URL of the server, "" for none."""

    def __init__(self, number: str, url: str, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.counters = _Counters()
        self.registry = Registry(clock=time.monotonic, log=FakeLog(), live=LiveConfig(Config()))
        for port in range(INSTANCES):
            self.registry.register(parse_registration({"role": "mixed", "host_ip": "10.0.0.1", "port": 8000 + port}))
        self.index = ToldPrefixIndex(time.monotonic, max_blocks=1_000_000, duration=1800.0)
        self.dice = random.Random(int(number))
        self.peers = Peers(f"replica-{number}", time.monotonic, LEASE_SECONDS)
        self.sync = self._make_sync(url) if url else None

    def _make_sync(self, url: str) -> Sync:
        return Sync(
            RedisBus(StateConfig(url=url), self.peers.own),
            [SharedLoads(self.registry), SharedPrefixes(self.index, "characters", lambda _: True)],
            self.peers,
            clock=time.monotonic,
            log=FakeLog(),
            counters=self.counters,
            health=BusHealth(),
            interval=INTERVAL_MS / 1000,
        )

    async def run(self) -> dict[str, Any]:
        """Join the others, serve for as long as is asked, and return what that took."""
        task = asyncio.ensure_future(self.sync.run()) if self.sync is not None else None
        for _ in range(1000 if task is not None else 0):
            if len(self.peers) == self.arguments.replicas:
                break
            await asyncio.sleep(0.01)
        self.counters.clear()
        cpu = _cpu()
        await self._serve()
        used = _cpu() - cpu
        if task is not None:
            await asyncio.sleep(0.5)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return {"cpu": used, "lags": self.counters.lags, "blocks": self.index.blocks, **self.counters.bytes}

    async def _serve(self) -> None:
        loop, dice, hasher, index = asyncio.get_running_loop(), self.dice, BlockHasher(BLOCK), self.index
        instances, old = self.registry.all(), [_text(dice, PROMPT_CHARACTERS // 2) for _ in range(64)]
        rate, began, asked = self.arguments.requests / self.arguments.replicas, loop.time(), 0
        while (now := loop.time()) < began + self.arguments.seconds:
            while asked < (now - began) * rate:
                asked += 1
                instance = instances[dice.randrange(INSTANCES)]
                prompt = dice.choice(old) + _text(dice, 32) + "x" * (PROMPT_CHARACTERS // 2 - 32)
                index.insert(index.match(hasher.of_text(prompt)), instance.url)
                instance.acquire(PROMPT_CHARACTERS)
                loop.call_later(HOLD_SECONDS, instance.release, PROMPT_CHARACTERS)
            await asyncio.sleep(0.002)


def _text(dice: random.Random, length: int) -> str:
    return "".join(dice.choices("abcdefghijklmnopqrstuvwxyz ", k=length))


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())
