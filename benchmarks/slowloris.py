"""Clients that hold connections with requests that never end, and what the others notice of them.

``python benchmarks/slowloris.py [--slow 9000] [--others 1000] [--seconds 10]``. First the others alone, then with the
slow ones: a third each send a head, or a body, a byte at a time, or read nothing of a stream. The slow ones are another
process; each sends a byte every ``--pause`` seconds and comes back when it is cut off. Every other client sends one
request a second over a kept connection. Exits with 1 if a request of theirs fails, or takes more than twice the time
(99th percentile, at least 5 ms) that it takes undisturbed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from rich import box
from rich.table import Table

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "src")]

from contenders import nginx_command  # noqa: E402
from processes import (  # noqa: E402
    FD_ROUTER,
    Program,
    allow_files,
    answers,
    free_port,
    make_console,
    need_programs,
    post,
    wait_until,
    write_config,
)

PATH = "/v1/chat/completions"
BODY = b'{"model": "m", "messages": [{"role": "user", "content": "hello"}]}'
REQUEST = b"POST %b HTTP/1.1\r\nhost: bench\r\ncontent-length: %d\r\n\r\n%b" % (PATH.encode(), len(BODY), BODY)
INSTANCE = """\
  server {{
    listen 127.0.0.1:{port};
    location / {{ default_type application/json; return 200 '{{"choices":[]}}'; }}
  }}"""
FLOOR_SECS = 0.005
"""Below this, twice as long is noise."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slow", type=int, default=9000)
    parser.add_argument("--others", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--pause", type=float, default=5.0)
    parser.add_argument("--attack", type=int, default=0, help=argparse.SUPPRESS)  # the other process: a port
    arguments = parser.parse_args()
    if arguments.attack:
        allow_files(arguments.slow + 100)
        return uvloop.run(attack(arguments.attack, arguments.slow, arguments.pause))
    need_programs("nginx")
    allow_files(max(arguments.slow, arguments.others) + 200)
    return measure(arguments)


def measure(arguments: argparse.Namespace) -> int:
    console = make_console()
    with tempfile.TemporaryDirectory(prefix="slowloris-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        instance, port = free_port(), free_port()
        command = nginx_command(directory, "instance", INSTANCE.format(port=instance))
        stack.enter_context(Program("instance", command, directory))
        config = write_config(directory, port, [instance])
        router = stack.enter_context(Program("router", [*FD_ROUTER, "--config_path", str(config)], directory))
        if not wait_until(lambda: answers(port, post(PATH, BODY)), 20):
            sys.exit("the router doesn't serve")
        alone = uvloop.run(others(port, arguments.others, arguments.seconds))
        here = [sys.executable, str(HERE / "slowloris.py"), "--attack", str(port)]
        here += ["--slow", str(arguments.slow), "--pause", str(arguments.pause)]
        slow = stack.enter_context(Program("slow", here, directory))
        wait_until(lambda: held(directory) >= arguments.slow * 0.9 or slow.has_ended, 40)
        cpu = router.cpu_seconds()
        beset = uvloop.run(others(port, arguments.others, arguments.seconds))
        cpu = router.cpu_seconds() - cpu
        console.print(f"{arguments.slow} slow connections, {held(directory)} of them held")
        console.print(as_table(alone, beset))
        console.print(f"the router's CPU meanwhile: {cpu / arguments.seconds:.0%} of one core")
    limit = 2 * max(alone.quantile(0.99), FLOOR_SECS)
    return 1 if beset.failed or alone.failed or beset.quantile(0.99) > limit else 0


def as_table(alone: Times, beset: Times) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("", "alone", "with the slow ones"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("requests", f"{len(alone.seconds):,}", f"{len(beset.seconds):,}")
    table.add_row("failed", f"{alone.failed:,}", f"{beset.failed:,}")
    for name, part in (("median", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
        table.add_row(name, *(f"{times.quantile(part) * 1000:.2f} ms" for times in (alone, beset)))
    return table


class Times:
    """How long requests took, in seconds, and how many failed."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.failed = 0

    def quantile(self, part: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


async def others(port: int, number: int, seconds: float) -> Times:
    """Let clients send a request a second each, over connections that they keep; return how long each took."""
    times = Times()
    until = time.monotonic() + seconds
    await asyncio.gather(*[other(port, until, times) for _ in range(number)])
    return times


async def other(port: int, until: float, times: Times) -> None:
    await asyncio.sleep(random.random())
    reader = writer = None
    while time.monotonic() < until:
        start = time.monotonic()
        try:
            async with asyncio.timeout(30):
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(REQUEST)
                assert reader is not None
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
            if not head.startswith(b"HTTP/1.1 200"):
                times.failed += 1
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            times.failed += 1
            reader = writer = None
        took = time.monotonic() - start
        times.seconds.append(took)
        await asyncio.sleep(max(0.0, 1 - took))
    if writer is not None:
        writer.transport.abort()


def held(directory: Path) -> int:
    """Return how many connections the slow process has told that it holds."""
    try:
        return int((directory / "slow.out").read_text().split()[-1])
    except (OSError, ValueError, IndexError):
        return 0


async def attack(port: int, number: int, pause: float) -> int:
    """Hold connections until ended."""
    counter = [0]
    tasks = []
    for each in range(number):
        tasks.append(asyncio.create_task(drip(port, each % 3, pause, counter)))
        if each % 50 == 49:
            await asyncio.sleep(0.05)  # within the accepting side's queue
    while os.getppid() != 1:
        print(counter[0], flush=True)
        await asyncio.sleep(0.5)
    return 0


async def drip(port: int, kind: int, pause: float, counter: list[int]) -> None:
    """Send a head, a body, or many requests whose answers aren't read, as slowly as can be; begin anew when cut off."""
    head = REQUEST[: -len(BODY)]
    first = (head[:20], head + BODY[:5], REQUEST)[kind]
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
            counter[0] += 1
            try:
                writer.write(first)
                while True:
                    await asyncio.sleep(pause * (0.5 + random.random()))
                    if writer.transport.is_closing() or reader.at_eof():
                        break
                    writer.write((b"x", b" ", REQUEST)[kind])
            finally:
                counter[0] -= 1
                writer.transport.abort()
        await asyncio.sleep(pause * random.random())


if __name__ == "__main__":
    sys.exit(main())
