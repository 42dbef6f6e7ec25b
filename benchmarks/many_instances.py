"""What 1,000 instances cost replicas that have nothing else to do: ``python benchmarks/many_instances.py``.

It needs redis-server. The instances register themselves, each every ``--heartbeat`` seconds and each time at any of the
replicas, as behind a Service; this program answers for all of them, at addresses 127.x.y.z and one port. Measured are
the probes of each instance, with one router and with ``--replicas``, and the CPU time of each router.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import random
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import uvloop
from processes import FD_ROUTER, Program, allow_files, free_port, make_console, need_programs
from rich import box
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.support.redis_server import RedisServer  # noqa: E402

from fd_router.errors import UpstreamError  # noqa: E402
from fd_router.http.client import HttpClient, Origin  # noqa: E402

START_SECS = 120.0
FIRST_ADDRESS = ipaddress.ip_address("127.1.0.1")
EMPTY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


def main() -> int:
    """Measure, and print a row for each number of replicas."""
    arguments = _arguments()
    need_programs("redis-server")
    allow_files(4096 + arguments.instances * arguments.replicas)
    table = Table(box=box.SIMPLE_HEAD)
    for heading in (
        "routers",
        "probes a heartbeat, an instance",
        "least, most",
        "% of a core, a router",
        "frames/s, a router",
    ):
        table.add_column(heading, justify="right")
    for replicas in (1, arguments.replicas):
        table.add_row(str(replicas), *uvloop.run(_measure(replicas, arguments)))
    make_console().print(table)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=8, help="[8]")
    parser.add_argument("--instances", type=int, default=1000, help="[1000]")
    parser.add_argument("--heartbeat", type=float, default=5.0, help="seconds between two of an instance [5]")
    parser.add_argument(
        "--dialect", default="fastdeploy", help="of vllm each is asked for its cache's size [fastdeploy]"
    )
    parser.add_argument("--policy", default="ttft_aware", help="[ttft_aware]")
    parser.add_argument("--seconds", type=float, default=30.0, help="that are measured [30]")
    return parser.parse_args()


async def _measure(replicas: int, arguments: argparse.Namespace) -> tuple[str, ...]:
    fleet = Fleet(arguments.instances, free_port(), arguments.dialect)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fd-router-many-")))
        server = stack.enter_context(RedisServer())
        ports = [free_port() for _ in range(replicas)]
        routers = [_start(stack, directory, port, server.url if replicas > 1 else "", arguments) for port in ports]
        async with fleet.alive(ports, arguments.heartbeat):
            await _until_known(ports, arguments.instances)
            await asyncio.sleep(2 * arguments.heartbeat)  # what is found out once is
            cpu, sent = [router.cpu_seconds() for router in routers], await _frames(ports)
            fleet.probes.clear()
            await asyncio.sleep(arguments.seconds)
            probes = [fleet.probes[host] * arguments.heartbeat / arguments.seconds for host in fleet.hosts]
            shares = [
                100 * (router.cpu_seconds() - was) / arguments.seconds for router, was in zip(routers, cpu, strict=True)
            ]
            frames = (await _frames(ports) - sent) / arguments.seconds / replicas
    return (
        f"{statistics.fmean(probes):.2f}",
        f"{min(probes):.2f}, {max(probes):.2f}",
        f"{statistics.fmean(shares):.1f} (most {max(shares):.1f})",
        f"{frames:.1f}",
    )


def _start(stack: ExitStack, directory: Path, port: int, url: str, arguments: argparse.Namespace) -> Program:
    own = directory / str(port)
    own.mkdir()
    config = {
        "server": {"host": "127.0.0.1", "port": str(port)},
        "scheduler": {"policy": arguments.policy},
        "state": {"url": url},
        "log": {"level": "info", "output": "file"},
    }
    path = own / "config.yaml"
    path.write_text(json.dumps(config))
    return stack.enter_context(Program("router", [*FD_ROUTER, "--config_path", str(path)], own))


async def _until_known(ports: Sequence[int], instances: int) -> None:
    """Wait until each router knows all instances."""
    client = HttpClient()
    async with asyncio.timeout(START_SECS):
        for port in ports:
            while await _number(client, port) < instances:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    client.close()


async def _number(client: HttpClient, port: int) -> int:
    try:
        answer = await client.fetch(Origin("127.0.0.1", port), "GET", "/registered_number")
    except UpstreamError:
        return 0
    return int(json.loads(answer.body)["mixed"])


async def _frames(ports: Sequence[int]) -> float:
    """Return how many frames all routers have sent."""
    client, count = HttpClient(keep=0), 0.0
    for port in ports:
        page = (await client.fetch(Origin("127.0.0.1", port), "GET", "/metrics", time_limit=START_SECS)).body.decode()
        samples = [line for line in page.splitlines() if line.startswith("fd_router_state_frames_total")]
        count += sum(float(line.split()[-1]) for line in samples if "sent" in line)
    return count


class Fleet:
    """All instances: they answer every GET with an empty object, and count those of the probes' path."""

    def __init__(self, size: int, port: int, dialect: str) -> None:
        self.hosts = [str(FIRST_ADDRESS + number) for number in range(size)]
        self.probes: Counter[str] = Counter()
        self._port = port
        self._dialect = dialect
        self._dice = random.Random(1)

    @asynccontextmanager
    async def alive(self, routers: Sequence[int], heartbeat: float) -> AsyncIterator[None]:
        """Answer, and register at ``routers``, meanwhile."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self), "0.0.0.0", self._port, backlog=4096)
        client = HttpClient(keep=0)
        tasks = [loop.create_task(self._register(host, client, routers, heartbeat)) for host in self.hosts]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            server.close()

    async def _register(self, host: str, client: HttpClient, routers: Sequence[int], heartbeat: float) -> None:
        entry = {"role": "mixed", "host_ip": host, "port": self._port, "version": "1", "dialect": self._dialect}
        body = json.dumps(entry).encode()
        await asyncio.sleep(heartbeat * self._dice.random())
        while True:
            router = Origin("127.0.0.1", self._dice.choice(routers))
            try:
                await client.fetch(router, "POST", "/register", body)
            except UpstreamError:  # it hasn't started yet
                await asyncio.sleep(heartbeat / 10)
                continue
            await asyncio.sleep(heartbeat)


class _Connection(asyncio.Protocol):
    """One connection of a router; its requests come one at a time."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._host = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._host = transport.get_extra_info("sockname")[0]

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /health "):
            self._fleet.probes[self._host] += 1
        self._transport.write(EMPTY)  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
