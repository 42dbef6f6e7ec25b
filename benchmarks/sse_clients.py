"""Clients of streams: ``sse_clients.py PORT STREAMS WARMUP_SECS SECONDS [--once]``.

Each opens a connection and asks for a stream, and for the next one when that is over; with ``--once`` they only hold
the one they have. After the warm-up, counting begins, and after ``SECONDS`` of it one JSON object is printed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Go on."}], "stream": True}).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
REQUEST = HEAD + b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
BURST = 50
"""Connections opened in one go; a pause of 10 ms follows."""


class Tally:
    """What all clients together have seen since ``clear``."""

    def __init__(self) -> None:
        self.ending = False
        self.errors = 0
        self.clear()

    def clear(self) -> None:
        """Begin to count anew; errors are never forgotten."""
        self.chunks = 0
        self.ended = 0
        self.first_bytes: list[float] = []


class Client(asyncio.Protocol):
    """One connection with one stream at a time."""

    def __init__(self, tally: Tally, *, once: bool) -> None:
        self._tally = tally
        self._once = once
        self._transport: asyncio.Transport
        self._asked = 0.0
        self._tail = b""
        self.is_streaming = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self.is_streaming = False
        self._tail = b""
        self._transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        tally = self._tally
        if not self.is_streaming:
            self.is_streaming = True
            tally.first_bytes.append(time.perf_counter() - self._asked)
            tally.errors += not data.startswith(b"HTTP/1.1 200")
        tally.chunks += data.count(b"data: {")
        self._tail = (self._tail + data)[-7:]
        if self._tail == b"\r\n0\r\n\r\n":
            self._on_end()

    def _on_end(self) -> None:
        self._tally.ended += 1
        if self._tally.ending:
            self._transport.close()
        elif not self._once:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._tally.errors += not self._tally.ending


async def _open(port: int, number: int, tally: Tally, *, once: bool) -> list[Client]:
    loop = asyncio.get_running_loop()
    clients = []
    for index in range(number):
        _, client = await loop.create_connection(lambda: Client(tally, once=once), "127.0.0.1", port)
        clients.append(client)
        if index % BURST == BURST - 1:
            await asyncio.sleep(0.01)
    return clients


async def main() -> None:
    """Open, warm up, count, print."""
    port, number = int(sys.argv[1]), int(sys.argv[2])
    warmup, seconds = float(sys.argv[3]), float(sys.argv[4])
    tally = Tally()
    clients = await _open(port, number, tally, once="--once" in sys.argv)
    await asyncio.sleep(warmup)
    first_bytes = sorted(tally.first_bytes)
    tally.clear()
    print("counting", flush=True)
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - began
    tally.ending = True
    first_bytes = sorted(tally.first_bytes) or first_bytes
    result = {
        "chunks_per_sec": tally.chunks / elapsed,
        "ended": tally.ended,
        "errors": tally.errors + sum(not client.is_streaming for client in clients),
        "first_byte_p50_ms": 1000 * first_bytes[len(first_bytes) // 2],
        "first_byte_p99_ms": 1000 * first_bytes[len(first_bytes) * 99 // 100],
    }
    print(json.dumps(result), flush=True)


uvloop.run(main())
