"""Engines that publish the largest KV events there are: what ``loop_stalls.py`` listens to.

    kv_teller.py KIND ENGINES BATCHES SCALE ROUTED

Says the ports where it publishes and replays, as JSON, and ``ready`` when all are listened to. At the next line of
standard input each engine publishes its batches; with ROUTED 1 none but the last, which has the others asked for.
"""

from __future__ import annotations

import json
import random
import sys
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import zmq

from fd_router.engines.kv_events import BlockRemoved, BlockStored

END = b"\xff" * 8


def stored(hashes: list[Any], parent: int | None, tokens: list[int], size: int, **more: Any) -> BlockStored:
    return BlockStored(hashes, parent, tokens, size, medium="GPU", group_idx=0,
                       kv_cache_spec_kind="full_attention", **more)  # fmt: skip


def pages(rng: random.Random, scale: float) -> list[Any]:
    """Return 20,000 pages of a token each, as SGLang tells them: an event each."""
    hashes = [rng.getrandbits(64) for _ in range(int(20_000 * scale))]
    parents = [None, *hashes]
    return [stored([each], parent, [rng.randrange(150_000)], 1) for each, parent in zip(hashes, parents, strict=False)]


def chain(rng: random.Random, scale: float) -> list[Any]:
    """Return 700,000 tokens in one event."""
    blocks = int(43_750 * scale)
    return [stored([rng.getrandbits(64) for _ in range(blocks)], None,
                   [rng.randrange(150_000) for _ in range(16 * blocks)], 16)]  # fmt: skip


def chain_of_pages(rng: random.Random, scale: float) -> list[Any]:
    """Return as many pages of a token each as there is room for, in one event."""
    blocks = int(270_000 * scale)
    return [stored([rng.getrandbits(64) for _ in range(blocks)], None,
                   [rng.randrange(150_000) for _ in range(blocks)], 1)]  # fmt: skip


def evictions(rng: random.Random, scale: float) -> list[Any]:
    """Return evictions: of a block in each event, and of many in one."""
    one_by_one = [BlockRemoved([rng.getrandbits(64)], "GPU", 0) for _ in range(int(25_000 * scale))]
    return [*one_by_one, BlockRemoved([rng.getrandbits(64) for _ in range(int(200_000 * scale))], "GPU", 0)]


def no_events(_: random.Random, scale: float) -> list[Any]:
    """Return what is no event."""
    return [None] * int(240_000 * scale)


def others(rng: random.Random, scale: float) -> list[Any]:
    """Return 20,000 pages, and an event that isn't known."""
    return [*pages(rng, scale), {"type": "BlockMoved"}]


def keys(_: random.Random, scale: float) -> list[Any]:
    """Return an event whose extra keys are millions of lists."""
    return [stored([1], None, [1], 1, extra_keys=[[[]] * int(3_800_000 * scale)])]


KINDS: dict[str, Callable[[random.Random, float], list[Any]]] = {
    each.__name__: each for each in (pages, chain, chain_of_pages, evictions, no_events, others, keys)
}


class Engine:
    def __init__(self, context: zmq.Context[Any]) -> None:
        self.live, self.replays = context.socket(zmq.XPUB), context.socket(zmq.ROUTER)
        for socket in (self.live, self.replays):
            socket.setsockopt(zmq.LINGER, 0)
        self.ports = [socket.bind_to_random_port("tcp://127.0.0.1") for socket in (self.live, self.replays)]
        self.buffer: list[bytes] = []
        threading.Thread(target=self._replay, daemon=True).start()

    def _replay(self) -> None:
        while True:
            who, _, asked = self.replays.recv_multipart()
            first = int.from_bytes(asked, "big")
            for number, payload in enumerate(tuple(self.buffer)):
                if number >= first:
                    self.replays.send_multipart((who, b"", number.to_bytes(8, "big"), payload))
            self.replays.send_multipart((who, b"", END, b""))

    def tell(self, payloads: list[bytes], *, is_replayed: bool) -> None:
        self.buffer = payloads
        for number, payload in enumerate(payloads):
            if not is_replayed or number == len(payloads) - 1:
                self.live.send_multipart((b"", number.to_bytes(8, "big"), payload))


def main() -> None:
    kind, engines, batches, scale, is_replayed = sys.argv[1:]
    context: zmq.Context[Any] = zmq.Context()
    fleet = [Engine(context) for _ in range(int(engines))]
    rng = random.Random(1)
    payloads = [
        msgspec.msgpack.encode((float(number), KINDS[kind](rng, float(scale)), 0)) for number in range(int(batches))
    ]
    assert max(map(len, payloads)) < 4 << 20
    print(json.dumps([engine.ports for engine in fleet]), flush=True)
    for engine in fleet:
        engine.live.recv()  # that somebody listens
    print("ready", flush=True)
    sys.stdin.readline()
    for engine in fleet:
        engine.tell(payloads, is_replayed=is_replayed == "1")
    print("told", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
