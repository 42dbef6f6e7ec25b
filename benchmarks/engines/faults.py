"""Scenario: clients that leave, servers that are full, and an engine's core that is killed behind its live server."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
from bench import MODEL, Bench, Finding, Router, Server, Silence
from processes import wait_until

SECS = 10.0
"""Within which what is given up is to be over, and what a killed core had to answer is answered."""

MOST = 4
"""Requests that a server takes; vLLM refuses others by 503."""

SMALL = (
    *("--max-num-seqs", str(MOST), "--max-num-queued-reqs", str(MOST)),
    *("--max-model-len", "8192", "--num-gpu-blocks-override", "1100"),
)

PATH = "/v1/completions"
SHORT: dict[str, Any] = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 4, "temperature": 0}
LONG: dict[str, Any] = {**SHORT, "max_tokens": 8000, "ignore_eos": True}
ENDLESS = {**LONG, "stream": True}


def faults(bench: Bench) -> Iterator[Finding]:
    """Two small servers, by turns."""
    servers = bench.start(SMALL, SMALL)
    router = bench.router(servers, scheduler={"policy": "round_robin"})
    yield from _leaving(router, servers)
    yield from _overload(router, servers)
    yield from _core_killed(router, servers)
    for program in (router, *servers):
        program.end()


def running(servers: Sequence[Server]) -> float:
    """Return how many requests the servers say they have."""
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
    return sum(server.metric(name) for server in servers for name in names)


def _leaving(router: Router, servers: Sequence[Server]) -> Iterator[Finding]:
    """A client that leaves ends its request at the engine, whether it reads a stream or waits for an answer."""
    with httpx.stream("POST", router.url + PATH, json=ENDLESS, timeout=60) as answer:
        lines = answer.iter_lines()
        for _ in range(10):
            next(lines)
        begun = wait_until(lambda: running(servers) == 1, SECS)
    yield _idle("a client leaves a stream", servers, begun=begun)
    left = threading.Thread(target=_give_up, args=(router,))
    left.start()
    begun = wait_until(lambda: running(servers) == 1, SECS)
    left.join()
    yield _idle("a client leaves an answer that isn't there yet", servers, begun=begun)


def _give_up(router: Router) -> None:
    try:
        httpx.post(router.url + PATH, json=LONG, timeout=6.0)
    except httpx.TimeoutException:
        return
    raise AssertionError("8,000 tokens within six seconds")


def _idle(what: str, servers: Sequence[Server], *, begun: bool) -> Finding:
    """The servers' own gauges are at 0 soon. ``begun``: whether they weren't before."""
    left = time.monotonic()
    with Silence(servers) as silence:
        ended = wait_until(lambda: running(servers) == 0, 6 * SECS, every=0.1)
        took = time.monotonic() - left
    seen = f"after {took:.1f} s" if begun else "it never ran"
    return Finding(f"{what}: nothing runs any more", begun and ended and took < SECS + silence.secs, seen)


def _overload(router: Router, servers: Sequence[Server]) -> Iterator[Finding]:
    """What a full server refuses goes to the other one; where both are full the client is told so."""
    with _Filled(servers[0]):
        refused = httpx.post(servers[0].url + PATH, json=SHORT, timeout=60).status_code
        told = [httpx.post(router.url + PATH, json=SHORT, timeout=60).status_code for _ in range(6)]
        yield Finding("one server is full: the other one serves", refused == 503 and told == [200] * 6, f"{told}")
        with _Filled(servers[1]):
            answer = httpx.post(router.url + PATH, json=SHORT, timeout=60)
            seen = f"{answer.status_code}, Retry-After {answer.headers.get('retry-after')}: {answer.text[:100]}"
            yield Finding("both are full: refused", answer.status_code in {429, 503}, seen)
    idle = wait_until(lambda: running(servers) == 0, 3 * SECS)
    before = [served(server) for server in servers]

    def ask_both() -> bool:
        httpx.post(router.url + PATH, json=SHORT, timeout=60)
        return all(served(server) > old for server, old in zip(servers, before, strict=True))

    again = wait_until(ask_both, 3 * SECS, every=0.2)
    yield Finding("full no more: both serve again", idle and again)


def served(server: Server) -> float:
    """Return how many requests a server has answered."""
    return server.metric("vllm:request_success_total")


class _Filled:
    """A server that is full as long as the block is run: with streams of its own."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._client = httpx.Client(base_url=server.url, timeout=60)
        self._leave = threading.Event()
        self._threads = [threading.Thread(target=self._hold) for _ in range(MOST)]

    def _hold(self) -> None:
        while not self._leave.is_set():
            with self._client.stream("POST", PATH, json=ENDLESS) as answer:
                for _ in answer.iter_lines():
                    if self._leave.is_set():
                        return

    def __enter__(self) -> None:
        for number, thread in enumerate(self._threads, 1):
            thread.start()
            if not wait_until(lambda count=number: running([self._server]) == count, 3 * SECS):  # type: ignore[misc]
                self._leave.set()
                raise RuntimeError(f"{self._server.name} has {running([self._server])} requests instead of {number}")

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        for thread in self._threads:
            thread.join(60)
        self._client.close()


def _core_killed(router: Router, servers: Sequence[Server]) -> Iterator[Finding]:
    """A request runs in the core that dies, others come when it is dead: all are answered by the other server."""
    answers: list[tuple[int, float]] = []

    def ask(body: dict[str, Any]) -> None:
        began = time.monotonic()
        answers.append((httpx.post(router.url + PATH, json=body, timeout=120).status_code, time.monotonic() - began))

    waiting = [threading.Thread(target=ask, args=({**LONG, "max_tokens": 2000},)) for _ in servers]
    for thread in waiting:
        thread.start()
    begun = wait_until(lambda: running(servers) == len(waiting), SECS)
    victim = max(servers, key=lambda server: running([server]))  # one that was full gets nothing for a moment
    os.kill(core_of(victim), signal.SIGKILL)
    killed = time.monotonic()
    while time.monotonic() - killed < 3.0:
        ask(SHORT)
    for thread in waiting:
        thread.join(120)
    good = [status for status, _ in answers if status == 200]
    seen = f"{len(good)} of {len(answers)} answered, the slowest after {max(took for _, took in answers):.1f} s"
    yield Finding("kill -9 of an engine's core: all is answered", begun and len(good) == len(answers), seen)
    gone = wait_until(lambda: not router.has_healthy(2), SECS)
    took = time.monotonic() - killed
    yield Finding("kill -9 of an engine's core: its server is left out", gone, f"{took:.1f} s later")


def core_of(server: Server) -> int:
    """Return the process id of a server's engine. Raises LookupError when it has none."""
    for child in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split():
        if Path(f"/proc/{child}/comm").read_text().startswith("VLLM::EngineCor"):
            return int(child)
    raise LookupError(f"{server.name} has no engine")
