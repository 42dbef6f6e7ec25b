"""How long one request can hold the router's event loop: everybody else waits meanwhile.

``python benchmarks/loop_stalls.py`` runs a router with a large fleet in this process, sends each endpoint the largest
input that its limits let in, and prints the longest time for which the loop did nothing else, in CPU time of its thread
and of those that kept it from running: other programs don't count. First a centralized fleet, then one of pairs, both
with 10,000 API keys. ``--smoke``: a small fleet and small inputs, to see that it works.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop
import yaml
from processes import free_port, make_console
from rich.table import Table
from stall_heart import Heart, beating, instance, running, settle_memory
from stalls_of_bus import rows_of_bus
from stalls_of_sources import rows_of_sources

from fd_router.admission.keys import hash_key
from fd_router.app.router import Router
from fd_router.config.loading import load
from fd_router.telemetry.logging.factory import open_log

LIMIT_MS = 50.0

INSTANCE = """
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
"""

CLIENT = """
import http.client, json, sys
for line in sys.stdin:
    port, method, path, body, headers, times = json.loads(line)
    data = open(body, "rb").read()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    for number in range(times):
        sent = data.replace(b"@@", b"%d" % number).replace(b"##", b"%d.%d" % divmod(number, 250))
        connection.request(method, path, sent or None, headers)
        answer = connection.getresponse()
        if answer.getheader("content-type") == "text/event-stream":  # it has no end
            events = 0
            while events < 3:  # hello, the first frame, and one that tells of a second
                events += answer.readline().startswith(b"data:")
            break
        answer.read()
    connection.close()
    print(answer.status, flush=True)
"""

KEY = "sk-" + "a" * 40


class Fleet:
    """What register.yaml names: instances of one process, each with an address of its own."""

    def __init__(self, path: Path, port: int, roles: tuple[str, str]) -> None:
        self._path, self._port, self._roles = path, port, roles
        self._network = -1

    def name(self, number: int) -> None:
        """Name ``number`` instances, other ones than before."""
        self._network += 1
        lines = [
            f"- {{role: {self._roles[at % 2]}, host_ip: 127.{self._network}.{at >> 8}.{at & 255}, port: {self._port}}}"
            for at in range(1, number + 1)
        ]
        self._path.write_text("\n".join(["instances:", *lines]))


@dataclass(frozen=True)
class Case:
    """One request, or ``times`` with another number each instead of ``@@`` in the body, a part of an address of ``##``.

    ``prepare``: what is to be done before.
    """

    name: str
    method: str
    path: str
    body: Callable[[], bytes] = bytes
    headers: tuple[tuple[str, str], ...] = ()
    times: int = 1
    prepare: Callable[[Fleet], None] | None = None


WARM_UP = Case("warm-up", "GET", "/health")


def cases(scale: float) -> list[Case]:
    """Return what is sent to a centralized fleet; ``scale`` of the largest."""
    ids, mega = int(10_000 * scale), int(1_000_000 * scale)
    chinese, words = "你好".encode(), b"some words of a line\\n"
    form = (("Content-Type", "multipart/form-data; boundary=XX"),)

    def text(name: str, of: bytes) -> Callable[[], bytes]:
        return lambda: b'{"%b":"%b"}' % (name.encode(), of)

    def items(name: str, item: bytes, number: int, last: bytes = b"{}") -> Callable[[], bytes]:
        return lambda: b'{"%b":[%b%b]}' % (name.encode(), item * number, last)

    return [
        Case("abort of ids that nobody knows", "POST", "/v1/abort_requests",
             lambda: json.dumps({"req_ids": [f"request-{number:08}" for number in range(ids)]}).encode()),
        Case("abort of all", "POST", "/v1/abort_requests", lambda: b'{"abort_all":true}'),
        Case("registration of nested lists", "POST", "/register", lambda: b'{"a":[' + b"[]," * (mega // 3) + b"0]}"),
        Case("registration of long names", "POST", "/register", lambda: b'{"host_ip":"' + b"1" * mega + b'"}'),
        Case("registration of many models", "POST", "/register", lambda: json.dumps({
            "role": "mixed", "host_ip": "127.9.9.9", "port": 1, "models": [f"m{number}" for number in range(10 * ids)],
        }).encode()),
        Case("list of instances", "GET", "/instances"),
        Case("list of registrations", "GET", "/registered"),
        Case("models", "GET", "/v1/models"),
        Case("traffic to all", "POST", "/v1/completions", lambda: b'{"prompt":"@@ is a number"}', times=2 * ids // 10),
        Case("metrics, with traffic to all", "GET", "/metrics"),
        Case("versions", "GET", "/version"),
        Case("drain", "POST", "/instances/127.0.0.1:{port}/drain"),
        Case("undrain", "POST", "/instances/127.0.0.1:{port}/undrain"),
        Case("an engine's path for admins, to all", "POST", "/flush_cache"),
        Case("explanation", "POST", "/v1/explain", text("prompt", b"word " * (mega // 6))),
        Case("reload, 10,000 keys", "POST", "/admin/reload"),
        Case("prompt of 24 MB", "POST", "/v1/completions", text("prompt", b"word " * (5 * mega))),
        Case("prompt of 24 MB in Chinese", "POST", "/v1/completions", text("prompt", chinese * (4 * mega))),
        Case("60 MB of text", "POST", "/v1/completions", text("prompt", b"word " * (12 * mega))),
        Case("60 MB of text in Chinese, in messages", "POST", "/v1/chat/completions",
             lambda: b'{"messages":[{"content":"%b"}]}' % (chinese * (10 * mega))),
        Case("60 MB of text with escapes", "POST", "/v1/completions", text("prompt", words * (27 * mega // 10))),
        Case("60 MB of escapes", "POST", "/v1/completions", text("prompt", b"\\u4f60" * (10 * mega))),
        Case("24 MB of escapes", "POST", "/v1/completions", text("prompt", b"\\u4f60" * (39 * mega // 10))),
        Case("400,000 tokens", "POST", "/v1/completions", items("prompt", b"12345,", 39 * mega // 100, b"1")),
        Case("60 MB of tokens", "POST", "/v1/completions", items("prompt", b"1,", 30 * mega, b"1")),
        Case("23,000 messages", "POST", "/v1/chat/completions",
             items("messages", b'{"content":"some words"},', 23 * mega // 1000)),
        Case("512 KB of messages", "POST", "/v1/chat/completions", items("messages", b'{"content":"a"},', mega // 31)),
        Case("512 KB of tokens", "POST", "/v1/completions", items("prompt", b"1,", mega // 4, b"1")),
        Case("28 MB with a lone surrogate", "POST", "/v1/completions", text("prompt", b"\\ud800" + b"a" * (28 * mega))),
        Case("10 MB of lists and a lone surrogate", "POST", "/v1/completions",
             lambda: b'{"prompt":"\\ud800","x":[' + b"[]," * (10 * mega // 3) + b"0]}"),
        Case("Responses: 60 MB in Chinese", "POST", "/v1/responses", text("input", chinese * (10 * mega))),
        Case("Responses: 60 MB with escapes", "POST", "/v1/responses", text("input", words * (27 * mega // 10))),
        Case("Responses: 65,000 texts", "POST", "/v1/responses",
             items("input", b'"some words",', 65 * mega // 1000, b'""')),
        Case("Responses: 13,500 items", "POST", "/v1/responses",
             items("input", b'{"content":"a"},', 135 * mega // 10_000)),
        Case("Responses: 1 MB of items", "POST", "/v1/responses", items("input", b'{"content":"a"},', mega // 21)),
        Case("Responses: 128 KB of lists", "POST", "/v1/responses", items("input", b"[],", mega // 24)),
        Case("Messages: 60 MB in Chinese", "POST", "/v1/messages",
             lambda: b'{"messages":[{"role":"user","content":"%b"}]}' % (chinese * (10 * mega))),
        Case("Messages: 40 MB of an image", "POST", "/v1/messages",
             lambda: b'{"messages":[{"content":[{"source":{"data":"%b"}}]}]}' % (b"QUJD" * (10 * mega))),
        Case("embeddings of 65,000 texts", "POST", "/v1/embeddings",
             items("input", b'"some words",', 65 * mega // 1000, b'""')),
        Case("rerank: 60 MB of documents", "POST", "/rerank",
             items("documents", b'"%b",' % (words * 2000), int(1300 * scale), b'""],"query":["a"')),
        Case("generate: 60 MB", "POST", "/generate", text("text", b"word " * (12 * mega))),
        Case("tokenize: 60 MB", "POST", "/tokenize", text("prompt", b"word " * (12 * mega))),
        Case("a form with a file of 60 MB", "POST", "/v1/audio/transcriptions", lambda: (
            b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%b\r\n--XX--\r\n'
            % (b"\r\n--X" * (12 * mega))
        ), form),
        Case("60 MB that are no form", "POST", "/v1/audio/transcriptions", lambda: b"-" * (60 * mega), form),
        Case("another model's name, 60 MB", "POST", "/v1/completions",
             lambda: b'{"model":"other","prompt":"%b"}' % (b"word " * (12 * mega))),
        Case("another model's name, 65,000 members", "POST", "/v1/completions",
             lambda: b'{"model":"other",%b"z":1}' % b"".join(b'"k%d":1,' % n for n in range(65 * mega // 1000))),
        Case("another model's name, 60 MB, spaced", "POST", "/v1/completions",
             lambda: b'{ "prompt" : "%b" , "model" : "other" }' % (chinese * (10 * mega))),
        Case("removal", "DELETE", "/instances/127.0.0.1:{port}"),
        Case("reload, 10,000 other instances", "POST", "/admin/reload", prepare=lambda fleet: fleet.name(ids)),
        Case("list of 10,000 instances", "GET", "/instances"),
        Case("metrics of 10,000 instances", "GET", "/metrics"),
        Case("the dashboard's frames of 10,000 instances", "GET", "/dashboard/events"),
        Case("choice among 10,000 instances", "POST", "/v1/completions", lambda: b'{"prompt":"a"}'),
        Case("registration of 10,000, with a state file", "POST", "/register",
             lambda: b'{"role":"mixed","host_ip":"127.200.##","port":{port}}', times=ids),
    ]  # fmt: skip


def pair_cases(scale: float) -> list[Case]:
    """Return what is sent to a fleet of pairs."""
    mega = int(1_000_000 * scale)
    chinese = "你好".encode()
    return [
        Case("pair: metrics", "GET", "/metrics"),
        Case("pair: list of instances", "GET", "/instances"),
        Case("pair: 60 MB of text", "POST", "/v1/completions", lambda: b'{"prompt":"%b"}' % (b"word " * (12 * mega))),
        Case("pair: 60 MB with a field of the router's", "POST", "/v1/completions",
             lambda: b'{"disaggregate_info":1,"prompt":"%b"}' % (chinese * (10 * mega))),
        Case("pair: the same, spaced", "POST", "/v1/completions",
             lambda: b'{ "disaggregate_info" : 1 , "prompt" : "%b" }' % (chinese * (10 * mega))),
        Case("pair: 65,000 members and such a field", "POST", "/v1/completions",
             lambda: b'{"disaggregate_info":1,%b"z":1}' % b"".join(b'"k%d": 1,' % n for n in range(65 * mega // 1000))),
        Case("pair: 2 MB with NaN and such a field", "POST", "/v1/completions",
             lambda: b'{"disaggregate_info":1,"x":NaN,"prompt":"%b"}' % (chinese * (mega // 3))),
        Case("pair: explanation", "POST", "/v1/explain", lambda: b'{"prompt":"%b"}' % (b"word " * (mega // 6))),
    ]  # fmt: skip


def main() -> int:
    """Measure, and print one row for each request. Returns 1 if one holds the loop for longer than the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=1000, help="in the fleet [1000]")
    parser.add_argument("--policy", default="cache_aware", help="[cache_aware]")
    parser.add_argument("--rounds", type=int, default=3, help="of which the shortest counts [3]")
    parser.add_argument("--only", default="", help="only the requests with this in their names")
    parser.add_argument("--smoke", action="store_true", help="small, and no limit")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.instances, arguments.rounds = 8, 1
    with tempfile.TemporaryDirectory(prefix="fd-router-stalls-") as directory, instance(INSTANCE) as port:
        rows = uvloop.run(_measure(arguments, Path(directory), port, splitwise=False))
        rows += uvloop.run(_measure_start(arguments, Path(directory), port))
        rows += uvloop.run(_measure(arguments, Path(directory), port, splitwise=True))
        scale = 0.01 if arguments.smoke else 1.0
        rows += uvloop.run(rows_of_sources(arguments.only, arguments.rounds, scale, port, Path(directory)))
        rows += uvloop.run(rows_of_bus(arguments.only, arguments.rounds, scale, Path(directory)))
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("request", "status", "loop held, ms"):
        table.add_column(heading, justify="left" if heading == "request" else "right")
    for name, status, held in rows:
        table.add_row(name, str(status), f"{held:.0f}")
    make_console().print(table)
    return int(not arguments.smoke and any(held > LIMIT_MS for _, _, held in rows))


async def _measure(
    arguments: argparse.Namespace, directory: Path, instance_port: int, *, splitwise: bool
) -> list[tuple[str, int, float]]:
    port, scale, pause = free_port(), *((0.01, 0.01) if arguments.smoke else (1.0, 0.2))
    roles = ("prefill", "decode") if splitwise else ("mixed", "mixed")
    fleet = Fleet(directory / "register.yaml", instance_port, roles)
    fleet.name(arguments.instances)
    keys = [{"name": f"key-{number}", "sha256": hash_key(f"sk-{number:040}")} for number in range(int(10_000 * scale))]
    (directory / "keys.yaml").write_text(json.dumps({"keys": [{"name": "a", "sha256": hash_key(KEY)}, *keys]}))
    config = {
        "server": {"host": "127.0.0.1", "port": port, "splitwise": splitwise},
        "access": {"keys-path": str(directory / "keys.yaml")},
        "models": {"aliases": {"other": "m"}, "default": "m", "discovery": "never"},
        "manager": {
            "register-path": str(directory / "register.yaml"),
            "health-check-interval-secs": 3600,
            "state-path": str(directory / "state.json"),
        },
        "scheduler": {"policy": arguments.policy, "prefill-policy": arguments.policy},
        "log": {"output": "file", "path": str(directory / "router.log"), "level": "error"},
    }
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    read = lambda: load(str(path), {}, {})  # noqa: E731
    async with Client.start(port, instance_port) as client:  # first: what there is now is small
        loaded = read()
        log = open_log(**{name: getattr(loaded.config.log, name) for name in loaded.config.log.__struct_fields__})
        router = Router(loaded.config, log, read)
        await router.start()
        settle_memory()
        try:
            await asyncio.to_thread(_wait_until_healthy, port, arguments.instances)
            heart = Heart(asyncio.get_running_loop())
            rows = []
            chosen = [x for x in (pair_cases(scale) if splitwise else cases(scale)) if arguments.only in x.name]
            for case in [WARM_UP, *chosen]:
                (directory / "body").write_bytes(case.body().replace(b"{port}", b"%d" % instance_port))
                held, status = [], 0
                for _ in range(arguments.rounds):
                    if case.prepare is not None:
                        case.prepare(fleet)
                    await asyncio.sleep(pause)
                    heart.longest = 0.0
                    status = await client.ask(case, directory / "body")
                    await asyncio.sleep(pause / 4)
                    held.append(heart.longest)
                if case is not WARM_UP:
                    rows.append((case.name, status, min(held) * 1000))
            return rows
        finally:
            await router.stop()
            log.close()


async def _measure_start(arguments: argparse.Namespace, directory: Path, port: int) -> list[tuple[str, int, float]]:
    """Start a router with a state file of 10,000 instances; nobody can connect before all are known."""
    name = "start with a state file of 10,000"
    if arguments.only not in name:
        return []
    number = 100 if arguments.smoke else 10_000
    entries = [
        {"role": "mixed", "host_ip": f"127.100.{at >> 8}.{at & 255}", "port": port} for at in range(1, number + 1)
    ]
    held = []
    for _ in range(arguments.rounds):
        (directory / "known.json").write_text(json.dumps({"instances": entries}))
        sections = {"manager": {"state-path": str(directory / "known.json"), "health-check-interval-secs": 3600}}
        with beating() as heart:
            async with running(directory, sections, heart=heart):
                await asyncio.sleep(0.05)
                held.append(heart.longest)
    return [(name, 0, min(held) * 1000)]


class Client:
    """Asks from another process, whose time doesn't count; one for all, since to start one holds a large process up."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, instance_port: int) -> None:
        self._process = process
        self._port, self._instance_port = port, instance_port

    @classmethod
    @asynccontextmanager
    async def start(cls, port: int, instance_port: int) -> AsyncIterator[Client]:
        """Run one."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", CLIENT, stdin=pipe, stdout=pipe)
        try:
            yield cls(process, port, instance_port)
        finally:
            process.kill()
            await process.wait()

    async def ask(self, case: Case, body: Path) -> int:
        """Send a request and return its answer's status."""
        path = case.path.replace("{port}", str(self._instance_port))
        headers = {"Authorization": f"Bearer {KEY}", **dict(case.headers)}
        asked = [self._port, case.method, path, str(body), headers, case.times]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        return int(await self._process.stdout.readline())


def _wait_until_healthy(port: int, number: int) -> None:
    for _ in range(3000):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/registered_number")
        counts = json.loads(connection.getresponse().read())
        connection.close()
        if sum(counts.values()) >= number:
            return
        time.sleep(0.1)
    raise RuntimeError("the instances never came up")


if __name__ == "__main__":
    sys.exit(main())
