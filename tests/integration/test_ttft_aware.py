"""``ttft_aware`` over real sockets: it finds caches, learns, and its queues are empty when nothing is under way."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.support.http_client import fetch
from tests.support.pd_fleet import CHAT, PdFleet
from tests.support.waiting import until

PROMPT = "Tell me the story of the seven bridges, from its very beginning. " * 100
SLOW = {"prefill_tokens_per_sec": 2000.0}
TTFT = {"policy": "ttft_aware", "prefill_policy": "ttft_aware", "decode_policy": "ttft_aware"}
TELL = {"stream_options": {"include_usage": True}}


def body(content: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 2, "stream": True, **more}


def counts(fleet: PdFleet, role: str = "mixed") -> list[int]:
    return [sum(each["path"] == CHAT for each in mock.requests()) for mock in fleet.of(role)]


async def ask(fleet: PdFleet, value: Any) -> None:
    assert (await fleet.call("POST", CHAT, value)).status == 200


async def queues(fleet: PdFleet, role: str = "mixed") -> list[float]:
    """Return the seconds of prompts that the policy thinks are queued at each instance."""
    answer = json.loads((await fleet.call("POST", "/v1/explain", body("hello"))).body)
    (told,) = [each for each in answer["roles"] if each["role"] == role]
    return [candidate["load"] for candidate in told["candidates"]]


async def errors(fleet: PdFleet, role: str) -> float:
    return await fleet.metric("fd_router_ttft_prediction_error_seconds_count", f'role="{role}"')


@pytest.mark.parametrize("stream", [True, False])
async def test_a_prompt_goes_where_it_is_cached_and_what_is_told_of_it_counts(stream: bool) -> None:
    async with PdFleet(mixed=3, scheduler=TTFT) as fleet:
        for _ in range(4):
            await ask(fleet, body(PROMPT, stream=stream, **(TELL if stream else {})))
        assert sorted(counts(fleet)) == [0, 0, 4]
        assert await errors(fleet, "mixed") == (4 if stream else 0)
        predicted, told, wrong = [
            await fleet.metric(f"fd_router_cached_tokens_{name}_total") for name in ("predicted", "told", "error")
        ]
        assert told == pytest.approx(3 * len(PROMPT) / 4, rel=0.1)
        assert predicted == pytest.approx(told, rel=0.1)
        assert wrong == pytest.approx(abs(predicted - told), abs=1)
        await until(lambda: fleet.log.count("final strategy: ttft_aware, selected=") >= 4)  # written in batches
        assert fleet.log.count("final strategy: ttft_aware, selected=") == 4
        assert await queues(fleet) == [0, 0, 0]
        assert not await fleet.leftovers()


async def test_clients_that_leave_take_their_prompts_out_of_the_queues() -> None:
    async with PdFleet(mixed=2, scheduler=TTFT, mock=SLOW) as fleet:
        await ask(fleet, body("hello"))  # the speed is known from here on
        asked = [
            asyncio.create_task(fleet.call("POST", CHAT, body(f"{number}" * 40_000, stream=number % 2 == 0)))
            for number in range(6)
        ]
        await until(lambda: sum(counts(fleet)) == 7)
        assert min(await queues(fleet)) > 0.5
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await until(lambda: not any(mock.state()["live"] for mock in fleet.of("mixed")))
        assert await queues(fleet) == [0, 0]
        assert not await fleet.leftovers()


async def test_an_instance_that_dies_leaves_nothing_in_the_queues() -> None:
    async with PdFleet(mixed=2, scheduler=TTFT, mock=SLOW) as fleet:
        asked = [asyncio.create_task(fleet.call("POST", CHAT, body(f"{number}" * 2000))) for number in range(6)]
        await until(lambda: all(counts(fleet)))
        await fleet.of("mixed")[0].stop()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert len(answers) == 6
        assert not any(await queues(fleet))


async def test_prompts_wait_in_the_router_and_go_elsewhere_when_their_instance_dies() -> None:
    options = {**TTFT, "ttft_feed_tokens": 1, "ttft_prefill_tokens_per_sec": 2000.0}
    async with PdFleet(mixed=2, scheduler=options, mock=SLOW) as fleet:
        number = 100
        while not all(counts(fleet)):  # the speed of both is to be known
            number += 1
            await ask(fleet, body(f"{number}"))
        before = sum(counts(fleet))
        asked = [asyncio.create_task(fleet.call("POST", CHAT, body(f"{number}" * 8000))) for number in range(6)]
        await until(lambda: fleet.log.count("waits in the router until") >= 4 and sum(counts(fleet)) >= before + 2)
        assert sum(counts(fleet)) == before + 2  # each prefills for a second
        assert min(await queues(fleet)) > 0.1
        await fleet.of("mixed")[0].stop()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        served = [answer for answer in answers if not isinstance(answer, BaseException) and answer.status == 200]
        assert len(served) >= 5  # all but the one that was being prefilled there
        assert fleet.log.count("waits in the router until") >= 4
        assert not any(await queues(fleet))


async def test_pairs() -> None:
    async with PdFleet(2, 2, scheduler=TTFT) as fleet:
        for _ in range(3):
            await ask(fleet, body(PROMPT, **TELL))
            await ask(fleet, body(PROMPT, stream=False))
        assert sorted(counts(fleet, "prefill")) == [0, 6]
        assert await errors(fleet, "prefill") == 6
        assert await errors(fleet, "decode") == 0
        assert await fleet.metric("fd_router_cached_tokens_told_total", 'role="prefill"') > 0
        assert await queues(fleet, "prefill") == [0, 0]
        assert not await fleet.leftovers()


async def test_decode_instances_share_the_load() -> None:
    async with PdFleet(1, 2, scheduler=TTFT) as fleet:
        value = json.dumps(body("hello", max_tokens=50)).encode()
        asked = [
            asyncio.create_task(fetch("127.0.0.1", fleet.port, "POST", CHAT, body=value, timeout_secs=60))
            for _ in range(6)
        ]
        await asyncio.gather(*asked)
        assert counts(fleet, "decode") == [3, 3]
        assert await queues(fleet, "decode") == [0, 0]
        assert not await fleet.leftovers()
