"""Streams that survive their instances: one of eight is killed (SIGKILL) every 2 seconds and started again.

``python benchmarks/continuation.py [--pairs] [streams [seconds]]``. Half are chats, half are completions, all with
token ids; ``--pairs``: at pairs of prefill and decode instances, four of each. Exits with 1 if more than one in a
thousand doesn't end, if one isn't what an unbroken run says, or if more
than one in a hundred waited for longer than 300 ms, from an instance's end to the next one's first event.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.support.fleet import Fleet  # noqa: E402
from tests.support.http_client import fetch  # noqa: E402
from tests.support.mock_process import MockProcess  # noqa: E402

from fd_router.telemetry.metrics.continuation import GAP_BOUNDS  # noqa: E402

INSTANCES = 8
KILL_EVERY_SECS = 2.0
TOKENS = 200
MOCK = {"name": "same", "decode_ms_per_token": 40, "decode_ms_per_running": 0}
PATHS = ("/v1/chat/completions", "/v1/completions")


def request(path: str) -> dict[str, Any]:
    prompt = {"prompt": "hello"} if path == PATHS[1] else {"messages": [{"role": "user", "content": "hello"}]}
    options = {"stream_options": {"include_usage": True}, "return_token_ids": True}
    return {**prompt, **options, "stream": True, "max_tokens": TOKENS}


def normal(body: bytes) -> str:
    """The events without what differs from answer to answer."""
    events = [json.loads(line[6:]) for line in body.split(b"\n\n") if line.startswith(b"data: {")]
    for event in events:
        del event["id"], event["created"]
        (event.get("usage") or {}).pop("prompt_tokens_details", None)
    return json.dumps([events, body.endswith(b"data: [DONE]\n\n")])


MOST_GAP_SECS = 0.3
GAP = "fd_router_stream_continuation_gap_seconds"


def gap_within(fleet: Fleet, share: float) -> float:
    """Return a bound, one of the histogram's, within which such a share of the gaps is."""
    total = fleet.metric(f"{GAP}_count")
    found = (bound for bound in GAP_BOUNDS if fleet.metric(f"{GAP}_bucket", le=str(bound)) >= share * total)
    return next(found, float("inf"))


class Tally:
    """What became of the streams."""

    def __init__(self) -> None:
        self.whole = self.different = 0
        self.errors: list[str] = []


async def stream(port: int, path: str, expected: str, tally: Tally) -> None:
    try:
        answer = await fetch("127.0.0.1", port, "POST", path, body=json.dumps(request(path)).encode(), timeout_secs=120)
    except (OSError, TimeoutError) as error:
        tally.errors.append(repr(error))
        return
    if normal(answer.body) == expected:
        tally.whole += 1
    else:
        tally.different += 1


async def kill_in_turn(fleet: Fleet, roles: Sequence[str], stop: asyncio.Event) -> int:
    """Kill one after the other, and start it again at its port. Returns how many were killed."""
    kills = 0
    while not stop.is_set():
        try:
            await asyncio.wait_for(stop.wait(), KILL_EVERY_SECS)
        except TimeoutError:
            at = kills % INSTANCES
            port = fleet.mocks[at].port
            await asyncio.to_thread(fleet.mocks[at].kill)
            fleet.mocks[at] = await asyncio.to_thread(
                fleet.add, MockProcess(port=port, role=roles[at % len(roles)], **MOCK)
            )
            kills += 1
    return kills


async def run(streams: int, seconds: float, *, pairs: bool) -> int:
    roles = ("prefill", "decode") if pairs else ("mixed",)
    tally, stop = Tally(), asyncio.Event()
    with Fleet(INSTANCES, mock=MOCK, roles=roles, config={"server": {"splitwise": pairs}}) as fleet:
        unbroken = {}
        for path in PATHS:
            body = json.dumps(request(path)).encode()
            answer = await fetch("127.0.0.1", fleet.port, "POST", path, body=body, timeout_secs=60)
            if answer.status != 200:
                sys.exit(f"an unbroken run is answered with {answer.status}: {answer.body!r}")
            unbroken[path] = normal(answer.body)
        killing = asyncio.create_task(kill_in_turn(fleet, roles, stop))
        begun, tasks = time.monotonic(), []
        for number in range(streams):
            path = PATHS[number % 2]
            tasks.append(asyncio.create_task(stream(fleet.port, path, unbroken[path], tally)))
            await asyncio.sleep(max(0.0, begun + number * seconds / streams - time.monotonic()))
        await asyncio.gather(*tasks)
        stop.set()
        kills = await killing
        moved = fleet.metric("fd_router_stream_continuations_total", outcome="continued")
        usual, longest = gap_within(fleet, 0.5), gap_within(fleet, 0.99)
    print(
        f"{streams} streams, {kills} kills: {tally.whole} whole and equal to an unbroken one, {tally.different} "
        f"different, {len(tally.errors)} broken; went on {moved:.0f} times, half of them within {usual * 1000:.0f} ms, "
        f"99 % within {longest * 1000:.0f} ms"
    )
    for error in tally.errors[:5]:
        print(error)
    is_good = not tally.different and len(tally.errors) <= streams / 1000
    return 0 if is_good and longest <= MOST_GAP_SECS else 1


def main(arguments: list[str]) -> int:
    """Run it with what the command line says."""
    pairs = "--pairs" in arguments
    arguments = [argument for argument in arguments if argument != "--pairs"]
    streams = int(arguments[0]) if arguments else 1000
    seconds = float(arguments[1]) if len(arguments) > 1 else 60.0
    return uvloop.run(run(streams, seconds, pairs=pairs))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
