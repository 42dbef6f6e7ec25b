"""Over a thousand exchanges, most of them broken in some way: afterwards nothing is counted, open, or lost sight of."""

import asyncio
import json
import random

import pytest

from tests.support.fleet import QUICK, Fleet, chat, eventually
from tests.support.raw_client import request

pytestmark = pytest.mark.unmeasured  # all of it is covered elsewhere; here it would only take time

EXCHANGES = 1500
AT_ONCE = 50
FAULTS = [
    "reset_before_head:probability=0.08",
    "hang_before_head:probability=0.02",
    "cut_mid_body:probability=0.08,how=rst",
    "cut_mid_body:probability=0.08,how=fin",
    "garbage:probability=0.04",
    "status:probability=0.2,status=500",
    "close_idle:probability=0.1",
    "slow:probability=0.05,head_secs=0.05",
]


async def exchange(port, dice):
    """Send a request and read some or all of the answer, as clients behave. Return what came."""
    body = json.dumps(chat("word " * dice.randrange(50), max_tokens=dice.randrange(1, 12), stream=dice.random() < 0.5))
    version = "1.0" if dice.random() < 0.1 else "1.1"
    data = request("/v1/chat/completions", body.encode(), "Connection: close", version=version)
    leaves = dice.random()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data[: dice.randrange(len(data))] if leaves < 0.05 else data)
        if leaves < 0.15:
            await asyncio.sleep(dice.random() * 0.03)
            return "left"
        if leaves < 0.25:
            await reader.read(200)
            return "left"
        answer = await asyncio.wait_for(reader.read(), 60)
    except (ConnectionError, BrokenPipeError):
        return "reset"
    finally:
        if dice.random() < 0.5:
            writer.transport.abort()
        writer.close()
    return answer.partition(b" ")[2][:3].decode() or "nothing"


@pytest.mark.slow
async def test_every_count_is_zero_after_randomly_broken_exchanges():
    config = {
        "proxy": {"first-byte-timeout-secs": 1, "max-attempts": 3},
        "manager": {"health-check-interval-secs": 0.2},
        "scheduler": {"policy": "process_tokens"},
    }
    with Fleet(3, config=config, mock={**QUICK, "fault": FAULTS}) as fleet:
        descriptors = fleet.metric("process_open_fds")
        dice = random.Random(20260330)
        endings = []

        async def client(seed):
            own = random.Random(seed)
            for _ in range(EXCHANGES // AT_ONCE):
                endings.append(await exchange(fleet.port, own))

        async def killer():
            await asyncio.sleep(0.5)
            fleet.mocks[0].pause()
            await asyncio.sleep(0.2)
            fleet.mocks[0].resume()
            await asyncio.sleep(0.2)
            fleet.mocks[1].kill()

        await asyncio.gather(killer(), *[client(dice.random()) for _ in range(AT_ONCE)])
        assert len(endings) == EXCHANGES // AT_ONCE * AT_ONCE
        assert endings.count("200") > EXCHANGES / 10
        assert {"200", "500", "left"} <= set(endings)
        assert "nothing" not in endings, "a client was left without an answer"
        fleet.settle()
        eventually(lambda: all(mock.state()["live"] == 0 for mock in (fleet.mocks[0], fleet.mocks[2])))
        eventually(lambda: fleet.metric("process_open_fds") <= descriptors + 60)  # kept connections, bounded
        seen = fleet.metric("http_requests_total", endpoint="/v1/chat/completions")
        assert seen == fleet.metric("inference_requests_total")
