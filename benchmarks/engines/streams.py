"""Scenario: streams that survive their instance, between two real servers: drained at a deadline, and killed."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
from bench import MODEL, Bench, Finding, Router, Server

TOKENS = 900
CUTS = (3, 40)
"""Events after which an instance is left."""

PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
SAYING = "Tell me about the sea, the wind and the stars"


def request(kind: str, **more: Any) -> dict[str, Any]:
    prompt = {"prompt": SAYING} if kind == "completions" else {"messages": [{"role": "user", "content": SAYING}]}
    shared = {"model": MODEL, "stream": True, "temperature": 0, "max_tokens": TOKENS, "ignore_eos": True}
    return {**prompt, **shared, "stream_options": {"include_usage": True}, **more}


class Stream:
    """One stream as its client has it: text, ids, ids of its answer, usage, whether it ended."""

    def __init__(self) -> None:
        self.text = ""
        self.tokens: list[int] = []
        self.names: set[str] = set()
        self.usage: dict[str, int] = {}
        self.roles = self.finishes = 0
        self.is_whole = False

    def read(self, url: str, kind: str, at: int = 0, act: Callable[[], None] | None = None, **more: Any) -> Stream:
        """Read it; behind ``at`` events ``act`` is called."""
        with httpx.stream("POST", url + PATHS[kind], json=request(kind, **more), timeout=300) as answer:
            count = 0
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    self._take(line[6:])
                    count += 1
                    if act is not None and count == at:
                        act()
        return self

    def _take(self, data: str) -> None:
        if data == "[DONE]":
            self.is_whole = True
            return
        event = json.loads(data)
        self.names.add(event["id"])
        if usage := event.get("usage"):
            self.usage = {name: usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
        for choice in event["choices"]:
            delta = choice.get("delta", choice)
            self.text += delta.get("content") or delta.get("text") or ""
            self.tokens += choice.get("token_ids") or []
            self.roles += "role" in delta
            self.finishes += choice.get("finish_reason") is not None

    def differs(self, whole: Stream, *, by_text: bool = False) -> str:
        """Say in what it isn't the unbroken one; by text, only the text is to be it."""
        mine, other = vars(self), vars(whole)
        names = ["text", "roles", "finishes", "is_whole"] + ([] if by_text else ["tokens", "usage"])
        wrong = [name for name in names if mine[name] != other[name]]
        return ", ".join([*wrong, *(["ids"] if len(self.names) != 1 else [])])


def drain(router: Router) -> Callable[[], None]:
    """Return what has the streams leave the instance that serves, and lets it serve the next ones."""

    def act() -> None:
        entries = httpx.get(f"{router.url}/instances", timeout=10).json()["instances"]
        for path in [f"{router.url}/instances/{entry['key']}" for entry in entries if entry["running"]]:
            httpx.post(f"{path}/drain?deadline_secs=0", timeout=10)
            threading.Timer(2.0, httpx.post, (f"{path}/undrain",)).start()

    return act


def moved(router: Router) -> int:
    """Return how many streams went on at another instance."""
    lines = httpx.get(f"{router.url}/metrics", timeout=10).text.splitlines()
    name = 'fd_router_stream_continuations_total{outcome="continued"'
    return sum(int(float(line.rpartition(" ")[2])) for line in lines if line.startswith(name))


def streams(bench: Bench) -> Iterator[Finding]:
    """By tokens the answer is that of an unbroken run, wherever it was cut; kill -9 of a server in mid-stream."""
    servers = bench.start((), ())
    router = bench.router(servers, scheduler={"policy": "round_robin"})
    whole = {kind: Stream().read(router.url, kind, return_token_ids=True) for kind in PATHS}
    plain = {kind: Stream().read(router.url, kind) for kind in PATHS}
    for kind in PATHS:
        wrong = whole[kind].differs(Stream().read(router.url, kind, return_token_ids=True))
        yield Finding(f"{kind}: two servers say the same", not wrong, wrong)
        before = moved(router)
        cut = [Stream().read(router.url, kind, at, drain(router), return_token_ids=True) for at in CUTS]
        found = [stream.differs(whole[kind]) for stream in cut]
        went_on = f"{moved(router) - before} of {len(CUTS)} went on"
        yield Finding(
            f"{kind}: drained behind {CUTS} events, by tokens: equal", not any(found), "; ".join([went_on, *found])
        )
        text = Stream().read(router.url, kind, CUTS[0], drain(router))
        wrong = text.differs(plain[kind], by_text=True)
        yield Finding(f"{kind}: the same by text: whole", text.is_whole, f"differs in {wrong}" if wrong else "equal")
    yield from killed(router, servers, whole)
    text = httpx.get(f"{router.url}/metrics", timeout=10).text
    lines = [line for line in text.splitlines() if line.startswith("fd_router_stream_continuations_total")]
    yield Finding("what became of them", not [line for line in lines if "continued" not in line], " ".join(lines))
    router.end()


def killed(router: Router, servers: list[Server], whole: dict[str, Stream]) -> Iterator[Finding]:
    """Kill the server (and its engine's core) that serves most of four streams."""
    results = [(kind, Stream()) for kind in (*PATHS, *PATHS)]
    begun, before = threading.Semaphore(0), moved(router)

    def read(kind: str, stream: Stream) -> None:
        stream.read(router.url, kind, 20, begun.release, return_token_ids=True)

    threads = [threading.Thread(target=read, args=each) for each in results]
    for thread in threads:
        thread.start()
    for _ in results:
        begun.acquire(timeout=60)
    victim = max(servers, key=lambda server: server.metric("vllm:num_requests_running"))  # one may drain still
    os.killpg(victim.pid, signal.SIGKILL)
    for thread in threads:
        thread.join(300)
    wrong = [stream.differs(whole[kind]) for kind, stream in results]
    yield Finding("kill -9 under 4 streams, by tokens: equal to an unbroken run", not any(wrong), "; ".join(wrong))
    yield Finding("kill -9: streams went on", moved(router) > before, f"{moved(router) - before} of 4")
