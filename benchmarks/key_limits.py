"""A key's limit over several replicas: how many requests of a burst are let in, with the state engine and without it.

``python benchmarks/key_limits.py [--limit 600] [--burst 3000]`` (it needs redis-server): four replicas, a key with so
many requests a minute, and a burst of so many requests spread evenly over them, once for each state of the engine. What
may be let in is the limit and what refills while the burst lasts: one more or less with the engine, a quarter more or
less without it. Exits with 1 where it is otherwise, or anything but 200 and 429 is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import uvloop
from processes import free_port, make_console, need_programs
from rich import box
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.support.fleet import QUICK, chat, eventually, sample  # noqa: E402
from tests.support.mock_process import MockProcess, RouterProcess, call  # noqa: E402
from tests.support.redis_server import RedisServer  # noqa: E402

from fd_router.admission.keys import entry, hash_key, make_key  # noqa: E402

REPLICAS = 4
CONNECTIONS = 16  # to each
EXACT, ROUGH = 1.0, 0.25
Fault = Callable[[RedisServer], None]


class Case(NamedTuple):
    """``before``: done to the engine before the burst; ``during``: when a fifth of it has been sent."""

    name: str
    is_known: bool = False  # whether each replica has served a request of the key, a moment ago
    before: Fault | None = None
    during: Fault | None = None

    @property
    def has_engine(self) -> bool:
        return self.before is None and self.during is None


CASES = (
    Case("engine up"),
    Case("engine killed before, key known", is_known=True, before=RedisServer.kill),
    Case("engine killed before, key new", before=RedisServer.kill),
    Case("engine killed in the burst", during=RedisServer.kill),
    Case("engine stopped in the burst", during=RedisServer.pause),
)


class Result(NamedTuple):
    """Of one burst. ``allowed``: what may be let in at least and at most."""

    statuses: Counter[int]
    seconds: float
    allowed: tuple[float, float]
    by_share: float  # requests that a replica judged by itself

    @property
    def is_good(self) -> bool:
        return self.allowed[0] <= self.statuses[200] <= self.allowed[1] and set(self.statuses) <= {200, 429}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=600, help="requests a minute")
    parser.add_argument("--burst", type=int, default=3000)
    arguments = parser.parse_args()
    need_programs("redis-server")
    results = {case: run_case(case, arguments.limit, arguments.burst) for case in CASES}
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("", "seconds", "let in", "may be", "judged alone", "other than 200, 429"):
        table.add_column(heading, justify="right" if heading else "left")
    for case, result in results.items():
        others = result.statuses.total() - result.statuses[200] - result.statuses[429]
        least, most = result.allowed
        told = (f"{result.seconds:.2f}", f"{result.statuses[200]:,}", f"{least:.0f}–{most:.0f}")
        table.add_row(case.name, *told, f"{result.by_share:,.0f}", str(others))
    make_console().print(table)
    return 0 if all(result.is_good for result in results.values()) else 1


def run_case(case: Case, limit: int, burst: int) -> Result:
    key = make_key()
    with ExitStack() as stack:
        engine = stack.enter_context(RedisServer())
        mock = MockProcess(**QUICK)
        stack.callback(mock.end)
        mock.wait_until_up()
        config = {"state": {"url": engine.url, "timeout-secs": 0.5}, "log": {"output": "file", "level": "warn"}}
        config["access"] = {"keys-path": "keys.yaml"}
        files = {"keys.yaml": entry("team", hash_key(key), begins_file=True) + f"    requests-per-minute: {limit}\n"}
        instances = [{"role": "mixed", "host_ip": "127.0.0.1", "port": mock.port}]
        routers = []
        for _ in range(REPLICAS):
            routers.append(RouterProcess(config, port=free_port(), instances=instances, files=files))
            stack.callback(routers[-1].end)
        ports = [router.wait_until_up().port for router in routers]
        eventually(lambda: all(metric(port, "fd_router_state_peers") == REPLICAS for port in ports))
        eventually(lambda: all(call(port, "GET", "/ready")[0] == 200 for port in ports))
        return uvloop.run(measure(case, engine, ports, key, limit, burst))


async def measure(case: Case, engine: RedisServer, ports: list[int], key: str, limit: int, burst: int) -> Result:
    load = Load(ports, key)
    try:
        if case.is_known:
            await load.send(2 * REPLICAS)
        if case.before is not None:
            case.before(engine)
            await asyncio.to_thread(eventually, lambda: not any(metric(port, "fd_router_state_up") for port in ports))
        begun, known = time.monotonic(), load.statuses.total()
        if case.during is not None:
            await load.send(burst // 5)
            case.during(engine)
        await load.send(burst + known - load.statuses.total())
        seconds = time.monotonic() - begun
    finally:
        load.close()
    full = limit * (1 + seconds / 60)
    tolerance = EXACT if case.has_engine else ROUGH * full
    by_share = sum(metric(port, "fd_router_state_reservations_total", by="share") for port in ports)
    return Result(load.statuses, seconds, (limit - tolerance, full + tolerance), by_share)


def metric(port: int, name: str, **labels: str) -> float:
    return sample(call(port, "GET", "/metrics")[1].decode(), name, **labels)


class Load:
    """Requests of one key over kept connections, as fast as they are answered. ``statuses``: of all answers."""

    def __init__(self, ports: list[int], key: str) -> None:
        self.statuses: Counter[int] = Counter()
        self._ports = ports
        self._open: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        body = json.dumps(chat(max_tokens=1)).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: "
        self._request = f"{head}{len(body)}\r\n\r\n".encode() + body

    async def send(self, number: int) -> None:
        """Send so many, evenly to all, and wait for the answers."""
        while len(self._open) < CONNECTIONS * len(self._ports):
            self._open += [await asyncio.open_connection("127.0.0.1", port) for port in self._ports]
        share, more = divmod(number, len(self._open))
        counts = [share + (place < more) for place in range(len(self._open))]
        await asyncio.gather(*(self._ask(*one, count) for one, count in zip(self._open, counts, strict=True)))

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, times: int) -> None:
        for _ in range(times):
            writer.write(self._request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
            self.statuses[int(head.split()[1])] += 1

    def close(self) -> None:
        for _, writer in self._open:
            writer.close()


if __name__ == "__main__":
    sys.exit(main())
