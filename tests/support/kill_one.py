"""A mixed fleet of which one instance is killed every so often, in the middle of its requests, and started again.

Nothing but complete, right answers will do: a request that isn't streamed can always be made again elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections import Counter
from typing import Any

import msgspec

from tests.support.fleet import Fleet, chat
from tests.support.mock_process import MockProcess

ANSWER_SECS = 60.0


class Plan(msgspec.Struct, frozen=True):
    """How much of it, and how long. A request takes ``tokens`` × ``decode_ms``."""

    seconds: float = 60.0
    kill_every_secs: float = 2.0
    instances: int = 4
    clients: int = 48
    tokens: int = 20
    decode_ms: float = 10.0
    probe_secs: float = 1.0


class Report(msgspec.Struct):
    """What came of it. ``endings``: by status, or the name of the error that the client met."""

    endings: Counter[str] = msgspec.field(default_factory=Counter)
    errors: list[str] = msgspec.field(default_factory=list)
    kills: int = 0
    at_work: int = 0  # requests that were running at instances when those were killed
    retries: float = 0.0
    repairs: float = 0.0  # counts that the router found to be wrong

    @property
    def lost(self) -> int:
        """Requests without a right answer."""
        return self.endings.total() - self.endings["200"]


async def run_kills(plan: Plan) -> Report:
    """Run the plan to its end. Raises AssertionError when counts don't come back to zero."""
    report = Report()
    fleet = await asyncio.to_thread(_start, plan)
    try:
        until = asyncio.get_running_loop().time() + plan.seconds
        numbers = itertools.count()
        clients = [_client(fleet, plan, numbers, until, report) for _ in range(plan.clients)]
        await asyncio.gather(*clients, _kill(fleet, plan, until, report))
        report.repairs = fleet.metric("fd_router_ledger_repairs_total")
        report.retries = fleet.metric("fd_router_retries_total")
        await asyncio.to_thread(fleet.check)
    finally:
        await asyncio.to_thread(fleet.__exit__, None, None, None)
    return report


def _start(plan: Plan) -> Fleet:
    mock = {"decode_ms_per_token": plan.decode_ms, "prefill_tokens_per_sec": 1_000_000}
    # Counts are audited all the time: whatever happens, they must be true.
    config = {"manager": {"health-check-interval-secs": plan.probe_secs}, "protection": {"ledger-interval-secs": 0.02}}
    return Fleet(plan.instances, mock=mock, config=config).__enter__()


async def _kill(fleet: Fleet, plan: Plan, until: float, report: Report) -> None:
    """Kill the instances in turn, each time when its turn has come and it has requests to lose."""
    loop = asyncio.get_running_loop()
    for turn in itertools.count():
        if loop.time() + plan.kill_every_secs >= until:
            return
        await asyncio.sleep(plan.kill_every_secs)
        place = turn % plan.instances
        await asyncio.to_thread(_kill_one, fleet, place, plan, report)


def _kill_one(fleet: Fleet, place: int, plan: Plan, report: Report) -> None:
    victim = fleet.mocks[place]
    report.at_work += victim.state()["live"]
    victim.kill()
    report.kills += 1
    again = MockProcess(port=victim.port, decode_ms_per_token=plan.decode_ms, prefill_tokens_per_sec=1_000_000)
    fleet.mocks[place] = fleet.add(again)


async def _client(fleet: Fleet, plan: Plan, numbers: Any, until: float, report: Report) -> None:
    """Send one request after the other on a kept connection."""
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        reader, writer = await asyncio.open_connection("127.0.0.1", fleet.port)
        stack.callback(writer.close)
        while loop.time() < until:
            name = f"m{next(numbers)}"
            body = json.dumps(chat(model=name, max_tokens=plan.tokens)).encode()
            writer.write(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            try:
                async with asyncio.timeout(ANSWER_SECS):
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                    answer = json.loads(await reader.readexactly(length))
            except (OSError, ValueError, EOFError) as error:
                report.endings[type(error).__name__] += 1
                report.errors.append(f"{name}: {error!r}")
                return
            status = head.split()[1].decode()
            right = status != "200" or answer.get("model") == name
            report.endings[status if right else "another's answer"] += 1
            if status != "200" or not right:
                report.errors.append(f"{name}: {status} {answer.get('error', answer)}")
