"""KV events over real sockets: what engines tell that they hold, against what they do hold."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.pd_fleet import CHAT, PdFleet
from tests.support.ports import free_port

BLOCK = 16
SCHEDULER = {"policy": "cache_aware", "cache_block_size": BLOCK, "kv_events": "on", "balance_abs_threshold": 100}


def kv_fleet(mixed: int = 2, *, told: int | None = None, cache_tokens: int = 4096, **scheduler: Any) -> PdFleet:
    """``told``: how many of the instances publish."""
    single = {
        f"mixed_{number}": {"kv_events_port": free_port(row=2)}
        for number in range(1, (mixed if told is None else told) + 1)
    }
    mock = {"dialect": "vllm", "block_size": BLOCK, "cache_tokens": cache_tokens}
    return PdFleet(mixed=mixed, scheduler=SCHEDULER | scheduler, mock=mock, **single)


def ids(number: int, count: int) -> list[int]:
    return [random.Random(number).randrange(1 << 17) for _ in range(count)]


def body(tokens: list[int]) -> dict[str, Any]:
    return {"messages": [], "prompt_token_ids": tokens, "max_tokens": 1}


async def ask(fleet: PdFleet, tokens: list[int]) -> int:
    """Send a prompt; return how many tokens of it were cached."""
    answer = await fleet.call("POST", CHAT, body(tokens))
    assert answer.status == 200, answer.body
    return int(json.loads(answer.body)["usage"]["prompt_tokens_details"]["cached_tokens"])


async def hits(fleet: PdFleet, tokens: list[int]) -> list[int]:
    """Return how many percent of the prompt each instance is said to hold."""
    answer = await fleet.call("POST", "/v1/explain", body(tokens))
    candidates = json.loads(answer.body)["roles"][0]["candidates"]
    return [each["prefix_hit_percent"] for each in candidates]


async def becomes(is_so: Callable[[], Awaitable[bool]], tries: int = 200) -> bool:
    for _ in range(tries):
        if await is_so():
            return True
        await asyncio.sleep(0.05)
    return False


async def followed(fleet: PdFleet, number: int) -> bool:
    return await becomes(lambda: _are_whole(fleet, number))


async def _are_whole(fleet: PdFleet, number: int) -> bool:
    return await fleet.metric("fd_router_kv_events_whole") == number


@pytest.mark.slow
async def test_what_is_evicted_is_known() -> None:
    async with kv_fleet(1, cache_tokens=640) as fleet:
        assert await followed(fleet, 1)
        prompts = [ids(number, 320) for number in range(4)]
        for prompt in prompts:
            await ask(fleet, prompt)
        assert await becomes(lambda: _equal(hits(fleet, prompts[3]), [95]))
        assert [await hits(fleet, prompt) for prompt in prompts[:3]] == [[0], [0], [95]]
        assert not await fleet.leftovers()


async def _equal(left: Awaitable[Any], right: Any) -> bool:
    return bool(await left == right)


async def _says(fleet: PdFleet, prompts: list[list[int]], percents: list[int]) -> bool:
    return [(await hits(fleet, prompt))[0] for prompt in prompts] == percents


@pytest.mark.slow
async def test_gaps_restarts_and_flushes_are_noticed() -> None:
    async with kv_fleet(1) as fleet:
        assert await followed(fleet, 1)
        (mock,) = fleet.of("mixed")
        mock.set_faults("kv_drop:probability=1")
        prompts = [ids(number, 160) for number in range(3)]
        await ask(fleet, prompts[0])
        mock.set_faults()
        await ask(fleet, prompts[1])
        assert await becomes(lambda: _says(fleet, prompts, [90, 90, 0]))
        mock.set_faults("kv_drop:probability=1")
        await ask(fleet, prompts[2])  # and nothing after it
        assert await becomes(lambda: _says(fleet, prompts, [90, 90, 90]))
        assert await fleet.metric("fd_router_kv_event_gaps_total", 'outcome="lost"') == 0
        mock.set_faults()
        mock.flush_cache()
        assert await becomes(lambda: _says(fleet, prompts, [0, 0, 0]))
        await ask(fleet, prompts[0])
        mock.set_faults("kv_restart")
        assert await becomes(lambda: _says(fleet, prompts, [0, 0, 0]))
        assert await ask(fleet, prompts[0]) == 0
        assert await becomes(lambda: _says(fleet, prompts, [90, 0, 0]))
        assert await fleet.metric("fd_router_kv_event_gaps_total", 'outcome="restarted"') == 1


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["cache_aware", "ttft_aware"])
async def test_instances_that_tell_stand_beside_those_that_do_not(policy: str) -> None:
    async with kv_fleet(2, told=1, policy=policy) as fleet:
        assert await followed(fleet, 1)
        prompts = [ids(number, 160) for number in range(2)]
        for mock in fleet.of("mixed"):
            mock.set_faults()
        first, second = fleet.of("mixed")
        for prompt in prompts:
            await ask(fleet, prompt)
            assert await becomes(lambda prompt=prompt: _knows_one(fleet, prompt))
        first.flush_cache()
        second.flush_cache()

        async def goes_by_its_word() -> bool:
            return all([(await hits(fleet, prompt))[0] == 0 for prompt in prompts])

        assert await becomes(goes_by_its_word)
        answer = await fleet.call("POST", "/v1/explain", body(prompts[0]))
        candidates = json.loads(answer.body)["roles"][0]["candidates"]
        assert [each["prefix_hit_source"] for each in candidates] == ["engine", "router"]
        assert not await fleet.leftovers()


async def _knows_one(fleet: PdFleet, prompt: list[int]) -> bool:
    return sum(hit > 0 for hit in await hits(fleet, prompt)) >= 1
