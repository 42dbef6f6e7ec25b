"""Scenario: what is the least that has to work through the router with two servers behind it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
from bench import MODEL, Bench, Finding

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "temperature": 0}


def smoke(bench: Bench) -> Iterator[Finding]:
    """A chat, whole and streamed, is what the server itself answers; the models are listed; both servers get some."""
    router = bench.router(scheduler={"policy": "round_robin"})
    direct = httpx.post(f"{bench.servers[0].url}/v1/chat/completions", json=CHAT, timeout=60).json()
    before = [server.metric("vllm:request_success_total") for server in bench.servers]
    whole = [httpx.post(f"{router.url}/v1/chat/completions", json=CHAT, timeout=60) for _ in range(4)]
    texts = [answer.json()["choices"][0]["message"]["content"] for answer in whole]
    yield Finding("chat: the answer of the server itself", texts == [direct["choices"][0]["message"]["content"]] * 4)
    served = [
        server.metric("vllm:request_success_total") - old for server, old in zip(bench.servers, before, strict=True)
    ]
    yield Finding("round robin: both serve", min(served) > 0, f"{served}")
    stream = httpx.post(f"{router.url}/v1/chat/completions", json={**CHAT, "stream": True}, timeout=60).text
    yield Finding("stream: ends", stream.endswith("data: [DONE]\n\n"), f"{stream.count('data: ')} events")
    models = [model["id"] for model in httpx.get(f"{router.url}/v1/models", timeout=10).json()["data"]]
    yield Finding("models: listed", models == [MODEL], f"{models}")
    router.end()
