"""Pairs of vLLM and SGLang: mock instances check each rule, faults strike either role, over real sockets."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from typing import Any, NamedTuple

import pytest
import uvloop

from tests.support.pd_fleet import PdFleet, ask

pytestmark = pytest.mark.unmeasured  # all of it is covered elsewhere; here it would only take time

PROTOCOLS: dict[str, dict[str, Any]] = {
    "pull": {"dialect": "vllm", "kv_connector": "NixlConnector"},
    "push": {"dialect": "vllm", "kv_connector": "NixlPushConnector"},
    "mooncake": {"dialect": "vllm", "kv_connector": "MooncakeConnector"},
    "sglang": {"dialect": "sglang"},
}

FAULTS = {
    "none": ("prefill", ""),
    "prefill reset": ("prefill", "reset_before_head"),
    "prefill 500": ("prefill", "status:status=500"),
    "prefill slow": ("prefill", "slow:head_secs=0.2"),
    "cache lost": ("prefill", "kv_lost"),
    "decode reset": ("decode", "reset_before_head"),
    "decode 500": ("decode", "status:status=500"),
    "decode cut": ("decode", "cut_mid_body"),
    "client leaves prefill": ("prefill", "hang_before_head"),
    "client leaves decode": ("decode", "hang_before_head"),
}
"""Each strikes the pair that is chosen first; the other two instances are well."""


KV_WAIT_SECS = 3.0
"""Shorter than usual: a client that leaves has its pair wait for each other in vain."""

TEXT = re.compile(r"decode-[12] reads the prompt, looks up its")
"""The 8 tokens of every answer."""


class Case(NamedTuple):
    protocol: str
    fault: str
    stream: bool

    @property
    def name(self) -> str:
        return f"{self.protocol}-{self.fault}-{'stream' if self.stream else 'whole'}".replace(" ", "_")


CASES = [
    Case(protocol, fault, (row + column) % 2 == 0)  # streamed or not: each fault is met both ways
    for (row, protocol), (column, fault) in itertools.product(enumerate(PROTOCOLS), enumerate(FAULTS))
]


async def until_ready(fleet: PdFleet) -> None:
    """Mooncake's prefill instances make no pairs before they have told their engines."""
    for _ in range(500):
        if (await fleet.call("GET", "/ready")).status == 200:
            return
        await asyncio.sleep(0.01)
    raise TimeoutError("no two instances pair")


def content_of(body: bytes, *, stream: bool) -> str:
    if not stream:
        return str(json.loads(body)["choices"][0]["message"]["content"])
    events = [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: {")]
    return "".join(event["choices"][0]["delta"].get("content", "") for event in events if event["choices"])


async def settled(fleet: PdFleet) -> list[str]:
    """Return what is left, once the caches that nobody takes any more have expired, too."""
    left: list[str] = []
    until = time.monotonic() + KV_WAIT_SECS + 15.0
    while time.monotonic() < until:
        if not (left := await fleet.leftovers()):
            break
        await asyncio.sleep(0.05)
    return left


def broken_rules(fleet: PdFleet) -> list[str]:
    return [
        f"{name} {key} {state[key]}"
        for name, mock in fleet.mocks.items()
        for key in ("refused_pairs", "misfits", "alone", "duplicates")
        if (state := mock.state()).get(key)
    ]


async def run_case(case: Case) -> list[str]:
    """Return what went wrong."""
    async with PdFleet(mock=PROTOCOLS[case.protocol] | {"kv_wait_secs": KV_WAIT_SECS}) as fleet:
        await until_ready(fleet)
        role, fault = FAULTS[case.fault]
        target = fleet.mocks[f"{role}-1"]
        if fault:
            target.set_faults(fault)
        client = await ask(fleet.port, stream=case.stream, max_tokens=8)
        problems = []
        if case.fault.startswith("client leaves"):
            for _ in range(2000):
                if target.state()["struck"]:
                    break
                await asyncio.sleep(0.01)
            client.leave()
        else:
            await client.read()
            client.leave()
            text = content_of(client.body, stream=case.stream) if client.status == 200 else client.body.decode()
            if not TEXT.fullmatch(text):
                problems.append(f"{client.status} {text!r}")
        return problems + await settled(fleet) + broken_rules(fleet)


async def run_all() -> dict[Case, list[str]]:
    places = asyncio.Semaphore(8)

    async def play(case: Case) -> list[str]:
        async with places:
            try:
                return await asyncio.wait_for(run_case(case), 60)
            except (OSError, TimeoutError, RuntimeError) as error:
                return [f"{type(error).__name__}: {error}"]

    return dict(zip(CASES, await asyncio.gather(*map(play, CASES)), strict=True))


@pytest.fixture(scope="module")
def outcomes() -> dict[Case, list[str]]:
    return uvloop.run(run_all())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fault(case: Case, outcomes: dict[Case, list[str]]) -> None:
    assert outcomes[case] == []


async def test_what_a_pair_can_not_do_is_done_by_decode() -> None:
    async with PdFleet(mock=PROTOCOLS["pull"]) as fleet:
        answer = await fleet.call("POST", "/v1/completions", {"prompt": ["a", "b"], "max_tokens": 3})
        assert answer.status == 200
        assert [mock.state()["alone"] for mock in fleet.of("decode")] == [1, 0]
        assert await fleet.metric("fd_router_decode_alone_total", 'reason="prompts"') == 1
        explained = json.loads((await fleet.call("POST", "/v1/explain", {"prompt": ["a", "b"]})).body)
        assert explained["roles"][0]["reason"] == "none: decode serves it alone (prompts)"


async def test_lists_of_prompts_have_lists_of_rooms() -> None:
    async with PdFleet(mock=PROTOCOLS["sglang"]) as fleet:
        answer = await fleet.call("POST", "/v1/completions", {"prompt": ["a", "b"], "max_tokens": 3})
        assert answer.status == 200
        assert broken_rules(fleet) == []


async def test_different_connectors_do_not_pair() -> None:
    other = {"kv_connector": "NixlPushConnector"}
    async with PdFleet(mock=PROTOCOLS["pull"], prefill_1=other, decode_1=other) as fleet:
        for _ in range(4):
            assert (await fleet.chat()).status == 200
        assert broken_rules(fleet) == []


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dialect": "openai"}, "instances of dialect 'openai' can't share a request as prefill and decode"),
        ({"kv_transfer": "LMCacheConnectorV1"}, "kv_transfer.kv_connector 'LMCacheConnectorV1' isn't known"),
        ({"kv_transfer": "NixlPushConnector"}, "kv_transfer.engine_id is missing"),
        ({"kv_transfer": {"engine": "e"}}, "kv_transfer.engine isn't known; known are kv_connector, engine_id"),
    ],
)
async def test_who_can_not_pair_is_refused(changes: dict[str, Any], why: str) -> None:
    async with PdFleet(1, 1, mock=PROTOCOLS["pull"]) as fleet:
        with pytest.raises(RuntimeError, match=why):
            await fleet.register("prefill-1", **changes)
