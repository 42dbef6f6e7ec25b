"""How long one request can hold the router's event loop: everybody else waits meanwhile.

``python benchmarks/loop_stalls.py`` runs a router with a large fleet in this process, sends each endpoint the largest
input that its limits let in, and prints the longest time for which the loop did nothing else, in its thread's CPU time:
other programs don't count. ``--smoke``: a small fleet and small inputs, to see that it works.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop
import yaml
from processes import free_port, make_console
from rich.table import Table

from fd_router.app.router import Router
from fd_router.config.loading import load
from fd_router.telemetry.logging.factory import open_log

LIMIT_MS = 50.0
BEAT_SECS = 0.001

INSTANCE = """
import asyncio, sys
class Instance(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.left = transport, 0
    def data_received(self, data):
        while data:
            if not self.left:
                head, _, data = data.partition(b"\\r\\n\\r\\n")
                self.left = int(head.lower().partition(b"content-length: ")[2].partition(b"\\r")[0] or 0)
            taken = min(self.left, len(data))
            data, self.left = data[taken:], self.left - taken
            if not self.left:
                self.transport.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n{}")
async def main():
    server = await asyncio.get_running_loop().create_server(Instance, "0.0.0.0", int(sys.argv[1]), backlog=4096)
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@dataclass(frozen=True)
class Case:
    """One request."""

    name: str
    method: str
    path: str
    body: Callable[[], bytes] = bytes


class Heart:
    """Beats on the loop, and keeps the longest pause between two beats."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._last = time.thread_time()
        self.longest = 0.0
        self._beat()

    def _beat(self) -> None:
        now = time.thread_time()
        self.longest = max(self.longest, now - self._last)
        self._last = now
        self._loop.call_later(BEAT_SECS, self._beat)


def cases(scale: float) -> list[Case]:
    """Return what is sent; ``scale`` of the largest."""
    ids, mega = int(10_000 * scale), int(1_000_000 * scale)

    def completion(text: str) -> bytes:
        return b'{"prompt":"%b"}' % text.encode()

    return [
        Case("abort of ids that nobody knows", "POST", "/v1/abort_requests",
             lambda: json.dumps({"req_ids": [f"request-{number:08}" for number in range(ids)]}).encode()),
        Case("registration of nested lists", "POST", "/register", lambda: b'{"a":[' + b"[]," * (mega // 3) + b"0]}"),
        Case("registration of long names", "POST", "/register", lambda: b'{"host_ip":"' + b"1" * mega + b'"}'),
        Case("list of instances", "GET", "/instances"),
        Case("list of registrations", "GET", "/registered"),
        Case("metrics", "GET", "/metrics"),
        Case("explanation", "POST", "/v1/explain", lambda: completion("word " * (mega // 6))),
        Case("reload", "POST", "/admin/reload"),
        Case("prompt of 24 MB", "POST", "/v1/completions", lambda: completion("word " * (5 * mega))),
        Case("prompt of 24 MB in Chinese", "POST", "/v1/completions", lambda: completion("你好" * (4 * mega))),
        Case("60 MB of text", "POST", "/v1/completions", lambda: completion("word " * (12 * mega))),
        Case("60 MB of text in Chinese, in messages", "POST", "/v1/chat/completions",
             lambda: b'{"messages":[{"content":"%b"}]}' % ("你好" * (10 * mega)).encode()),
        Case("60 MB of text with escapes", "POST", "/v1/completions",
             lambda: b'{"prompt":"%b"}' % (b"some words of a line\\n" * (27 * mega // 10))),
        Case("60 MB of escapes", "POST", "/v1/completions", lambda: b'{"prompt":"%b"}' % (b"\\u4f60" * (10 * mega))),
        Case("24 MB of escapes", "POST", "/v1/completions",
             lambda: b'{"prompt":"%b"}' % (b"\\u4f60" * (39 * mega // 10))),
        Case("400,000 tokens", "POST", "/v1/completions",
             lambda: b'{"prompt":[%b1]}' % (b"12345," * (39 * mega // 100))),
        Case("60 MB of tokens", "POST", "/v1/completions", lambda: b'{"prompt":[%b1]}' % (b"1," * (30 * mega))),
        Case("35,000 messages", "POST", "/v1/chat/completions",
             lambda: b'{"messages":[%b{}]}' % (b'{"content":"some words"},' * (mega // 29))),
        Case("1 MB of messages", "POST", "/v1/chat/completions",
             lambda: b'{"messages":[%b{}]}' % (b'{"content":"a"},' * (mega // 16))),
        Case("1 MB of tokens", "POST", "/v1/completions", lambda: b'{"prompt":[%b1]}' % (b"1," * (mega // 2))),
        Case("28 MB with a lone surrogate", "POST", "/v1/completions",
             lambda: b'{"prompt":"\\ud800' + b"a" * (28 * mega) + b'"}'),
        Case("10 MB of lists and a lone surrogate", "POST", "/v1/completions",
             lambda: b'{"prompt":"\\ud800","x":[' + b"[]," * (10 * mega // 3) + b"0]}"),
    ]  # fmt: skip


def main() -> int:
    """Measure, and print one row for each request. Returns 1 if one holds the loop for longer than the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=1000, help="in the fleet [1000]")
    parser.add_argument("--policy", default="cache_aware", help="[cache_aware]")
    parser.add_argument("--rounds", type=int, default=3, help="of which the shortest counts [3]")
    parser.add_argument("--smoke", action="store_true", help="small, and no limit")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.instances, arguments.rounds = 8, 1
    with tempfile.TemporaryDirectory(prefix="fd-router-stalls-") as directory, _instances() as port:
        rows = uvloop.run(_measure(arguments, Path(directory), port))
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("request", "status", "loop held, ms"):
        table.add_column(heading, justify="left" if heading == "request" else "right")
    for name, status, held in rows:
        table.add_row(name, str(status), f"{held:.0f}")
    make_console().print(table)
    return int(not arguments.smoke and any(held > LIMIT_MS for _, _, held in rows))


@contextmanager
def _instances() -> Iterator[int]:
    """Run one process that is all instances: each has an address of its own, and the same port."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", INSTANCE, str(port)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield port
    finally:
        process.kill()
        process.wait()


async def _measure(arguments: argparse.Namespace, directory: Path, instance_port: int) -> list[tuple[str, int, float]]:
    port = free_port()
    entries = [
        {"role": "mixed", "host_ip": f"127.0.{number >> 8}.{number & 255}", "port": instance_port}
        for number in range(1, arguments.instances + 1)
    ]
    (directory / "register.yaml").write_text(yaml.safe_dump({"instances": entries}))
    config = {
        "server": {"host": "127.0.0.1", "port": port},
        "manager": {"register-path": str(directory / "register.yaml"), "health-check-interval-secs": 3600},
        "scheduler": {"policy": arguments.policy},
        "log": {"output": "file", "path": str(directory / "router.log"), "level": "error"},
    }
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    read = lambda: load(str(path), {}, {})  # noqa: E731
    loaded = read()
    log = open_log(**{name: getattr(loaded.config.log, name) for name in loaded.config.log.__struct_fields__})
    router = Router(loaded.config, log, read)
    await router.start()
    try:
        await asyncio.to_thread(_wait_until_healthy, port, arguments.instances)
        heart = Heart(asyncio.get_running_loop())
        rows = []
        for case in cases(0.01 if arguments.smoke else 1.0):
            body, held, status = case.body(), [], 0
            for _ in range(arguments.rounds):
                await asyncio.sleep(0.2)
                heart.longest = 0.0
                status = await asyncio.to_thread(_ask, port, case, body)
                await asyncio.sleep(0.05)
                held.append(heart.longest)
            rows.append((case.name, status, min(held) * 1000))
        return rows
    finally:
        await router.stop()
        log.close()


def _ask(port: int, case: Case, body: bytes) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request(case.method, case.path, body or None)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def _wait_until_healthy(port: int, number: int) -> None:
    for _ in range(600):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/registered_number")
        counts = json.loads(connection.getresponse().read())
        connection.close()
        if counts["mixed"] >= number:
            return
        time.sleep(0.1)
    raise RuntimeError("the instances never came up")


if __name__ == "__main__":
    sys.exit(main())
