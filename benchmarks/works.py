"""The works that are measured: what is sent, what answers, and how the cost of one request or chunk is found."""

from __future__ import annotations

import json
import math
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from contenders import nginx_command
from processes import HERE, Program, answers, free_port, post, wait_until

PATH = "/v1/chat/completions"
STREAMS, CHUNKS, INTERVAL_SECS = 200, 100, 0.02
WORDS = ("alpha", "beta", "river", "stone", "cloud", "light", "paper", "green", "house", "seven", "quick", "tiger")
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Here I am. Ask away!"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 27, "completion_tokens": 8, "total_tokens": 35},
}
INSTANCE = """\
  server {{
    {listens} default_type application/json;
    location = /health {{ return 200 '{{}}'; }}
    location = /v1/models {{ return 200 '{{"object":"list","data":[{{"id":"m","object":"model"}}]}}'; }}
    location / {{ return 200 '{answer}'; }}
  }}"""


@dataclass(frozen=True)
class Figures:
    """What one contender cost: CPU µs per ``unit`` of the work, and what else was seen meanwhile."""

    cpu_us: float
    per_sec: float
    latency_ms: float
    errors: str


class Requests:
    """Whole answers, as many as possible: wrk in front, nginx as two instances behind."""

    unit = "request"
    latency = "p99"
    programs = ("nginx", "wrk")

    def __init__(
        self,
        name: str,
        connections: int,
        bodies: Sequence[bytes],
        policies: tuple[str, ...],
        rust_policy: str,
        *,
        pairs: bool = False,
        cores: int = 1,
    ) -> None:
        """``cores``: how many wrk may use, and the instances as many again."""
        self.name = name
        self._cores = cores
        self.pairs = pairs  # each request goes to two instances, by fd-router; to one by nginx
        self.policies = policies
        self.rust_policy = rust_policy
        self._connections = connections
        self.bodies = bodies

    def part(self, number: int) -> Requests:
        """Return it with the ``number``-th part of its connections."""
        connections = self._connections // number
        return Requests(
            self.name, connections, self.bodies, self.policies, self.rust_policy, pairs=self.pairs, cores=self._cores
        )

    @contextmanager
    def instances(self, directory: Path) -> Iterator[list[int]]:
        """Run two instances; give their ports."""
        ports = [free_port(), free_port()]
        listens = " ".join(f"listen 127.0.0.1:{port};" for port in ports)
        body = INSTANCE.format(listens=listens, answer=json.dumps(ANSWER))
        with Program("instances", nginx_command(directory, "instances", body, self._cores), directory) as program:
            _wait_for(ports, [program])
            yield ports

    def measure(self, program: Program, port: int, directory: Path, seconds: float, rounds: int) -> Figures:
        """Send for ``rounds`` times ``seconds``, after two seconds of warm-up."""
        bodies = directory / f"{self.name}.jsonl"
        bodies.write_bytes(b"\n".join(self.bodies) + b"\n")
        self._send(port, bodies, 2)
        costs, rates, said = [], [], ""
        for _ in range(rounds):
            before = program.cpu_seconds()
            said = self._send(port, bodies, seconds)
            served = int(_find(r"(\d+) requests in", said) or 0)
            costs.append(1e6 * (program.cpu_seconds() - before) / max(1, served))
            rates.append(served / seconds)
        latency = _milliseconds(_find(r"99%\s+(\S+)", said))
        return Figures(
            statistics.median(costs), statistics.median(rates), latency, _find(r"(Non-2xx.*|Socket err.*)", said)
        )

    def _send(self, port: int, bodies: Path, seconds: float) -> str:
        url = f"http://127.0.0.1:{port}{PATH}"
        command = [
            "wrk",
            f"-t{self._cores}",
            f"-c{self._connections}",
            f"-d{seconds:g}s",
            "--latency",
            "-s",
            str(HERE / "bodies.lua"),
        ]
        done = subprocess.run([*command, url, "--", str(bodies)], capture_output=True, text=True, check=True)
        return done.stdout


class Streams:
    """Streams of small chunks at a given pace, from two instances: 10,000 chunks a second in all."""

    name = "stream"
    unit = "chunk"
    latency = "first byte p99"
    programs = ()
    bodies: Sequence[bytes] = ()
    pairs = False
    policies = ("power_of_two",)
    rust_policy = "power_of_two"

    def __init__(self, streams: int = STREAMS) -> None:
        """``streams``: how many flow at a time."""
        self._streams = streams

    def part(self, number: int) -> Streams:
        """Return the ``number``-th part of it."""
        return Streams(self._streams // number)

    @contextmanager
    def instances(self, directory: Path) -> Iterator[list[int]]:
        """Run two instances; give their ports."""
        ports = [free_port(), free_port()]
        with ExitStack() as stack:
            programs = [stack.enter_context(self._instance(port, directory)) for port in ports]
            _wait_for(ports, programs)
            yield ports

    def _instance(self, port: int, directory: Path) -> Program:
        command = [sys.executable, str(HERE / "sse_instance.py"), str(port), str(CHUNKS), str(INTERVAL_SECS)]
        return Program(f"instance-{port}", command, directory)

    def measure(self, program: Program, port: int, directory: Path, seconds: float, rounds: int) -> Figures:
        """Let the streams flow for ``rounds`` times ``seconds``, each after a warm-up."""
        costs, seen = [], {}
        for number in range(rounds):
            name = f"clients-{port}-{number}"
            clients = [
                sys.executable,
                str(HERE / "sse_clients.py"),
                str(port),
                str(self._streams),
                "1.5",
                str(seconds + 1),
            ]
            with Program(name, clients, directory) as client:
                if not wait_until(lambda: "counting" in client.output.read_text(), 30, every=0.01):
                    raise RuntimeError(f"no streams: {client.output.read_text()}")
                before, began = program.cpu_seconds(), time.monotonic()
                time.sleep(seconds)
                used, elapsed = program.cpu_seconds() - before, time.monotonic() - began
                seen = json.loads(client.result(30).splitlines()[-1])
            costs.append(1e6 * used / elapsed / max(1.0, seen["chunks_per_sec"]))
        errors = f"{seen['errors']} errors" if seen["errors"] else ""
        return Figures(statistics.median(costs), seen["chunks_per_sec"], seen["first_byte_p99_ms"], errors)


Work = Requests | Streams


def all_works(*, cores: int = 1) -> dict[str, Work]:
    """Make them, by name. ``cores``: those that the clients of ``short`` may use, and its instances as many again."""
    long_policies = ("process_tokens", "cache_aware")
    short_bodies, long_bodies = [_body("You are a helpful assistant.", "hello, who are you?")], _long_bodies()
    one = ("power_of_two",)
    works: list[Work] = [
        Requests("short", 64, short_bodies, one, "power_of_two", cores=cores),
        Streams(),
        Requests("long", 32, long_bodies, long_policies, "cache_aware"),
        Requests("pd-short", 64, short_bodies, one, "power_of_two", pairs=True),
        Requests("pd-long", 32, long_bodies, one, "power_of_two", pairs=True),
    ]
    return {work.name: work for work in works}


def _long_bodies() -> list[bytes]:
    """Make 256 different prompts of 48 KB, the first 8 KB of which are the same."""
    rng = random.Random(7)
    system = _text(rng, 8000)
    return [_body(system, _text(rng, 40000)) for _ in range(256)]


def _text(rng: random.Random, length: int) -> str:
    return " ".join(rng.choices(WORDS, k=length // 5))[:length]


def _body(system: str, user: str) -> bytes:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return json.dumps({"model": "m", "messages": messages, "max_tokens": 100, "stream": False}).encode()


def _wait_for(ports: list[int], programs: list[Program]) -> None:
    for port in ports:
        if not wait_until(partial(answers, port, post(PATH, b"{}")), 10):
            said = "".join(program.output.read_text() for program in programs)
            raise RuntimeError(f"an instance doesn't answer: {said}")


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else ""


def _milliseconds(text: str) -> float:
    """Read a duration as wrk writes it: ``812.00us``, ``9.10ms``, ``1.02m``; nan where it writes none, or ``-nan``."""
    found = re.fullmatch(r"([\d.]+)(us|ms|s|m|h)", text)
    if found is None:
        return math.nan
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0}[found[2]]
