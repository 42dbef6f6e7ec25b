"""Streams that survive their instances: one of eight is killed (SIGKILL) every 2 seconds and started again.

A third are chats, a third are chats of a model that thinks for half of its answer, a third are completions, all with
token ids. Exits with 1 if more than one in a thousand doesn't end, if one isn't what an unbroken run says, its usage
included, or if more than one in a hundred waited for longer than 300 ms, from an instance's end to the next one's first
event (``--smoke``: however long that is).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
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
TOKENS = 250
"""Of a stream, which takes 10 s then."""
MOCK = {"name": "same", "decode_ms_per_token": 40, "decode_ms_per_running": 0}

CHAT = {"messages": [{"role": "user", "content": "hello"}]}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "completion": ("/v1/completions", {"prompt": "hello"}),
    "reasoning": ("/v1/chat/completions", {**CHAT, "chat_template_kwargs": {"enable_thinking": True}}),
}


def request(kind: str, tokens: int) -> tuple[str, bytes]:
    """Return the path and the body."""
    path, prompt = KINDS[kind]
    options = {"stream_options": {"include_usage": True}, "return_token_ids": True}
    return path, json.dumps({**prompt, **options, "stream": True, "max_tokens": tokens}).encode()


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
        self.whole: Counter[str] = Counter()  # by kind
        self.different = 0
        self.errors: list[str] = []


async def stream(port: int, kind: str, asked: tuple[str, bytes], expected: str, tally: Tally) -> None:
    path, body = asked
    try:
        answer = await fetch("127.0.0.1", port, "POST", path, body=body, timeout_secs=120)
    except (OSError, TimeoutError) as error:
        tally.errors.append(repr(error))
        return
    if normal(answer.body) == expected:
        tally.whole[kind] += 1
    else:
        tally.different += 1


async def unbroken(port: int, asked: tuple[str, bytes]) -> str:
    """Return what an answer is when nothing is killed."""
    answer = await fetch("127.0.0.1", port, "POST", asked[0], body=asked[1], timeout_secs=60)
    if answer.status != 200:
        sys.exit(f"an unbroken run is answered with {answer.status}: {answer.body!r}")
    return normal(answer.body)


async def kill_in_turn(fleet: Fleet, mock: dict[str, Any], roles: Sequence[str], stop: asyncio.Event) -> int:
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
                fleet.add, MockProcess(port=port, role=roles[at % len(roles)], **mock)
            )
            kills += 1
    return kills


async def run(streams: int, seconds: float, tokens: int, *, pairs: bool, smoke: bool) -> int:
    roles = ("prefill", "decode") if pairs else ("mixed",)
    mock = {**MOCK, "thinking_tokens": tokens // 2}
    asked = {kind: request(kind, tokens) for kind in KINDS}
    tally, stop = Tally(), asyncio.Event()
    with Fleet(INSTANCES, mock=mock, roles=roles, config={"server": {"splitwise": pairs}}) as fleet:
        answers = await asyncio.gather(*(unbroken(fleet.port, asked[kind]) for kind in KINDS))
        expected = dict(zip(KINDS, answers, strict=True))
        killing = asyncio.create_task(kill_in_turn(fleet, mock, roles, stop))
        begun, tasks = time.monotonic(), []
        for number in range(streams):
            kind = [*KINDS][number % len(KINDS)]
            tasks.append(asyncio.create_task(stream(fleet.port, kind, asked[kind], expected[kind], tally)))
            await asyncio.sleep(max(0.0, begun + number * seconds / streams - time.monotonic()))
        await asyncio.gather(*tasks)
        stop.set()
        kills = await killing
        moved = fleet.metric("fd_router_stream_continuations_total", outcome="continued")
        usual, longest = gap_within(fleet, 0.5), gap_within(fleet, 0.99)
    print(
        f"{streams} streams, {kills} kills: {tally.whole.total()} whole and equal to an unbroken one, "
        f"{tally.different} different, {len(tally.errors)} broken; went on {moved:.0f} times, "
        f"half of them within {usual * 1000:.0f} ms, 99 % within {longest * 1000:.0f} ms"
    )
    print("whole: " + ", ".join(f"{count} x {kind}" for kind, count in tally.whole.items()))
    for error in tally.errors[:5]:
        print(error)
    is_good = not tally.different and len(tally.errors) <= streams / 1000
    return 0 if is_good and (smoke or longest <= MOST_GAP_SECS) else 1


def main() -> int:
    """Run it with what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("streams", nargs="?", type=int, default=1000, help="how many (%(default)s)")
    parser.add_argument("seconds", nargs="?", type=float, default=60.0, help="in which they begin (%(default)s)")
    parser.add_argument("tokens", nargs="?", type=int, default=TOKENS, help="of each, 40 ms apart (%(default)s)")
    parser.add_argument("--pairs", action="store_true", help="at pairs of prefill and decode instances")
    parser.add_argument("--smoke", action="store_true", help="don't judge how long clients waited")
    asked = parser.parse_args()
    return uvloop.run(run(asked.streams, asked.seconds, asked.tokens, pairs=asked.pairs, smoke=asked.smoke))


if __name__ == "__main__":
    sys.exit(main())
