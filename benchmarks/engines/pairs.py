"""Scenario: pairs of vLLM by NixlConnector, on the CPU: their text is a single engine's, and either may be killed."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
from bench import MODEL, Bench, Finding, Router, Server, Silence
from processes import free_port, wait_until

LIMIT = 10.0
"""Seconds within which a request is answered whose instance was killed."""

HANDSHAKES = 6
"""Requests by which a pair is to have worked."""

LONG = "The quick brown fox jumps over the lazy dog. " * 40
CHAT: dict[str, Any] = {
    "model": MODEL, "messages": [{"role": "user", "content": LONG}], "max_tokens": 24, "temperature": 0,
}  # fmt: skip
COMPLETION: dict[str, Any] = {"model": MODEL, "prompt": LONG, "max_tokens": 24, "temperature": 0}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
MESSAGES: dict[str, Any] = {
    "model": MODEL, "max_tokens": 12, "temperature": 0, "messages": [{"role": "user", "content": LONG}],
}  # fmt: skip
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "chat, max_completion_tokens": ("/v1/chat/completions", {**CHAT, "max_completion_tokens": 9, "min_tokens": 5}),
    "chat, a forced tool": ("/v1/chat/completions", {**CHAT, "tools": [TOOL], "tool_choice": "required"}),
    "chat, JSON": ("/v1/chat/completions", {**CHAT, "response_format": {"type": "json_object"}}),
    "completion": ("/v1/completions", COMPLETION),
    "completion of ids": ("/v1/completions", {**COMPLETION, "prompt": list(range(100, 400))}),
    "messages": ("/v1/messages", MESSAGES),
    "alone: two prompts": ("/v1/completions", {**COMPLETION, "prompt": [LONG, "Hello"]}),
    "alone: n": ("/v1/chat/completions", {**CHAT, "n": 2, "temperature": 0.01, "seed": 3}),
    "alone: responses": ("/v1/responses", {"model": MODEL, "input": LONG, "max_output_tokens": 12, "temperature": 0}),
}


def pairs(bench: Bench) -> Iterator[Finding]:
    """Play through all."""
    prefills, decodes = start(bench, "kv_producer", 2), start(bench, "kv_consumer", 3)
    instances = [entry("prefill", each) for each in prefills] + [entry("decode", each) for each in decodes]
    options = {
        "server": {"splitwise": True},
        "scheduler": {"prefill-policy": "round_robin", "decode-policy": "round_robin"},
    }
    router = bench.router(instances=instances, **options)
    yield _introduced(router, prefills, decodes)
    yield from _texts(router, decodes[0], prefills, decodes)
    yield from _kills(router, prefills, decodes)
    yield _idle(router, prefills[:0], decodes[2:])
    for program in (router, *prefills, *decodes):
        program.end()


def start(bench: Bench, role: str, number: int) -> list[Server]:
    """Start servers of one role, each with a side channel of its own."""
    config = {"kv_connector": "NixlConnector", "kv_role": role, "kv_buffer_device": "cpu"}
    side = {"VLLM_NIXL_SIDE_CHANNEL_HOST": "127.0.0.1", "UCX_TLS": "tcp,self,sm"}
    environments = [{**side, "VLLM_NIXL_SIDE_CHANNEL_PORT": str(free_port())} for _ in range(number)]
    return bench.start(*[("--kv-transfer-config", json.dumps(config))] * number, environments=environments)


def entry(role: str, server: Server) -> dict[str, Any]:
    return {"role": role, "host_ip": "127.0.0.1", "port": server.port, "dialect": "vllm"}


def _introduced(router: Router, prefills: Sequence[Server], decodes: Sequence[Server]) -> Finding:
    """Have each pair shake hands before its first transfer; vLLM leaves 5 s for that, too little on a busy machine."""
    tried = 0
    for prefill in prefills:
        for decode in decodes:
            others = [each for each in (*prefills, *decodes) if each not in {prefill, decode}]
            _drain(router, others, "drain")
            for _ in range(HANDSHAKES):
                tried += 1
                status, _told = ask(router, fresh(100 + tried))
                if status == 200:
                    break
            _drain(router, others, "undrain")
            if status != 200:
                return Finding("each pair works", holds=False, seen=f"{prefill.name}, {decode.name}: {_told}")
    return Finding("each pair works", holds=True, seen=f"{tried} requests for {len(prefills) * len(decodes)} pairs")


def _texts(router: Router, single: Server, prefills: Sequence[Server], decodes: Sequence[Server]) -> Iterator[Finding]:
    """Each case is answered as by one engine; what may be handed over is."""
    for name, (path, body) in CASES.items():
        expected = text_of(httpx.post(single.url + path, json=body, timeout=120).json())
        before = [server.metric("vllm:request_success_total") for server in prefills]
        answer = httpx.post(router.url + path, json=body, timeout=120)
        by_pair = sum(server.metric("vllm:request_success_total") for server in prefills) - sum(before) == 1
        told = text_of(answer.json())
        holds = answer.status_code == 200 and told == expected and by_pair != name.startswith("alone")
        yield Finding(
            f"{name}: a single engine's answer",
            holds,
            "" if holds else f"{answer.status_code} {told!r:.300} instead of {expected!r:.300}, {by_pair=}",
        )
    loaded = sum(server.metric("vllm:prompt_tokens_by_source_total") for server in decodes)
    streamed = "".join(stream_text(router, {**CHAT, "stream": True}))
    expected = text_of(httpx.post(single.url + "/v1/chat/completions", json=CHAT, timeout=120).json())
    yield Finding("stream: a single engine's text", [streamed] == expected, f"{loaded:.0f} prompt tokens at decode")


def _kills(router: Router, prefills: Sequence[Server], decodes: Sequence[Server]) -> Iterator[Finding]:
    """Kill one after the other, each in another phase, and another time the last one of its role."""
    expected = text_of(httpx.post(decodes[2].url + "/v1/chat/completions", json=fresh(0), timeout=120).json())
    first, second, third = decodes
    yield _killed("decode dies while it is waited for", router, first, first, [second, third], 0, expected)
    yield _killed("prefill dies in the prefill", router, prefills[0], prefills[0], [prefills[1]], 0, expected)
    yield _continued(router, second, third)
    yield _killed("the last prefill dies behind its answer", router, prefills[1], third, [], 1, None)


def _drain(router: Router, servers: Sequence[Server], verb: str) -> None:
    for server in servers:
        httpx.post(f"{router.url}/instances/127.0.0.1:{server.port}/{verb}", timeout=5).raise_for_status()


def fresh(number: int) -> dict[str, Any]:
    """Return a request whose prompt no engine has cached yet, if its number is a new one."""
    return {**CHAT, "messages": [{"role": "user", "content": f"{number} {LONG}"}]}


def _killed(
    what: str, router: Router, victim: Server, stopped: Server, others: Sequence[Server], number: int, expected: Any
) -> Finding:
    """Have the request hang at the one that is ``stopped``, not at ``others``; kill ``victim`` then, and let go on."""
    _drain(router, others, "drain")
    signal_tree(stopped, signal.SIGSTOP)
    answers: list[tuple[int, Any]] = []
    asking = threading.Thread(target=lambda: answers.append(ask(router, fresh(number))))
    asking.start()
    time.sleep(2.0)
    _drain(router, others, "undrain")
    killed_at = time.monotonic()
    signal_tree(victim, signal.SIGKILL)
    if stopped is not victim:
        signal_tree(stopped, signal.SIGCONT)
    with Silence([each for each in (*others, stopped) if each is not victim]) as silence:
        asking.join(120)
        took = time.monotonic() - killed_at
    status, told = answers[0] if answers else (0, None)
    good = (status == 200 and told == expected) if expected is not None else status >= 500
    seen = f"{status} after {took:.1f} s, {silence.secs:.1f} of them without a word of the living: {str(told)[:80]}"
    return Finding(what, good and took < LIMIT + silence.secs, seen)


def _continued(router: Router, victim: Server, other: Server) -> Finding:
    """Kill decode in the middle of a stream."""
    body = {**fresh(7), "max_tokens": 400, "ignore_eos": True, "stream": True, "return_token_ids": True}
    whole = text_of(httpx.post(other.url + "/v1/chat/completions", json={**body, "stream": False}, timeout=120).json())
    _drain(router, [other], "drain")
    pieces: list[str] = []
    for piece in stream_text(router, body):
        pieces.append(piece)
        if len(pieces) == 20:
            _drain(router, [other], "undrain")
            signal_tree(victim, signal.SIGKILL)
    text = "".join(pieces)
    return Finding("decode dies in a stream: another pair goes on", [text] == whole, f"{len(pieces)} pieces")


def ask(router: Router, body: dict[str, Any]) -> tuple[int, Any]:
    """Return status and text, or the error's message."""
    answer = httpx.post(router.url + "/v1/chat/completions", json=body, timeout=120)
    told = answer.json()
    return answer.status_code, text_of(told) if answer.status_code == 200 else told.get("error", {}).get("message")


def stream_text(router: Router, body: dict[str, Any]) -> Iterator[str]:
    """Send, and yield each piece of the text as it comes."""
    with httpx.stream("POST", router.url + "/v1/chat/completions", json=body, timeout=120) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    if text := choice["delta"].get("content"):
                        yield text


def text_of(answer: dict[str, Any]) -> Any:
    """Return what an answer says, of whichever endpoint."""
    if "choices" in answer:
        return [
            choice.get("text") or choice["message"].get("content") or _calls(choice) for choice in answer["choices"]
        ]
    if "content" in answer:
        return [part.get("text") for part in answer["content"]]
    if "output" in answer:
        return [part.get("text") for item in answer["output"] for part in item.get("content") or ()]
    return answer


def _calls(choice: dict[str, Any]) -> Any:
    return [call["function"] for call in choice["message"].get("tool_calls") or ()]


def signal_tree(server: Server, number: int) -> None:
    """Send a signal to the server and to its engine's process."""
    os.killpg(server.pid, number)


def _idle(router: Router, prefills: Sequence[Server], decodes: Sequence[Server]) -> Finding:
    """Nothing is held any more, neither in the router nor at those that live."""

    def counts() -> list[float]:
        told = httpx.get(f"{router.url}/instances", timeout=5).json()["instances"]
        held = [float(each["running"]) for each in told]
        return held + [server.metric("vllm:num_requests_running") for server in (*prefills, *decodes)]

    idle: Callable[[], bool] = lambda: not any(counts())  # noqa: E731
    return Finding("nothing is held", wait_until(idle, 15.0), f"{counts()}")
