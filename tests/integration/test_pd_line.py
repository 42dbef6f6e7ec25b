"""Requests that wait for a pair: both of it must have room."""

import asyncio
import json

from tests.support.pd_fleet import PdFleet
from tests.support.waiting import until


async def test_requests_wait_for_room_at_both_of_a_pair():
    async with PdFleet(2, 1) as fleet:
        for name in ("prefill-1", "prefill-2", "decode-1"):
            await fleet.register(name, max_requests=1)
        answers = await asyncio.gather(*(fleet.chat(request_id=f"r{number}") for number in range(6)))
        assert [answer.status for answer in answers] == [200] * 6
        assert fleet.log.count("Waiting for room at an instance (priority normal") >= 4
        await until(lambda: not any(mock.state()["in_flight"] for mock in fleet.mocks.values()))
        assert await fleet.leftovers() == []


async def test_an_abort_takes_a_request_out_of_the_line():
    async with PdFleet(1, 1) as fleet:
        await fleet.register("decode-1", max_requests=1)
        running = asyncio.create_task(fleet.chat(request_id="first", max_tokens=60))
        await until(lambda: fleet.of("decode")[0].state()["in_flight"])
        waiting = asyncio.create_task(fleet.chat(request_id="second"))
        await until(lambda: fleet._router._admission.queues.default.waiting)
        told = await fleet.call("POST", "/v1/abort_requests", {"req_ids": ["second", "unknown"]})
        result = json.loads(told.body)["result"]
        assert result["aborted"] == [{"request_id": "second", "output_token_count": 0}]
        assert result["not_found"] == ["unknown"]
        assert (await waiting).status == 499
        assert (await running).status == 200
        await until(lambda: not any(mock.state()["in_flight"] for mock in fleet.mocks.values()))
        assert await fleet.leftovers() == []
