"""How much later than decode's first byte the client's comes, while prefill keeps its head back for a second."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import uvloop
from processes import FD_ROUTER, Program, answers, free_port, make_console, post, wait_until, write_config

REQUESTS = 100
AT_ONCE = 10
PREFILL_SECS = 1.0
LIMIT_MS = 20.0
START_SECS = 10.0
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b'13\r\ndata: {"choices":[]}\r\n'.replace(b"13", b"%x" % len(b'data: {"choices":[]}'))
END = b"0\r\n\r\n"
HEALTHY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
BODY = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}],"user":"%d"}'


class Instance:
    """Answers a completion's head after ``delay`` seconds, the first chunk with it, the end a second later."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.sent_at: dict[bytes, float] = {}  # the request's number → when its first chunk was written

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(head, reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass  # the router has left, or this program ends
        finally:
            writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if head.startswith(b"GET"):
            writer.write(HEALTHY)
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        await asyncio.sleep(self.delay)
        self.sent_at[body.partition(b'"user":"')[2].partition(b'"')[0]] = time.perf_counter()
        writer.write(HEAD + CHUNK)
        await asyncio.sleep(PREFILL_SECS + 0.2 - self.delay)
        writer.write(END)


async def first_byte_at(port: int, number: int) -> float:
    """Send a request and say when the first byte of its answer came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(post("/v1/chat/completions", BODY % number))
        if not await reader.read(1):
            raise RuntimeError("no answer")
        at = time.perf_counter()
        await reader.readuntil(b"\r\n" + END)
        return at
    finally:
        writer.close()


async def measure(directory: Path) -> list[float]:
    """Return the delays in milliseconds, sorted."""
    prefill, decode = Instance(PREFILL_SECS), Instance(0.0)
    ports = [free_port(), free_port()]
    servers = [
        await asyncio.start_server(instance.serve, "127.0.0.1", port)
        for instance, port in zip((prefill, decode), ports, strict=True)
    ]
    port = free_port()
    config = write_config(directory, port, ports, pairs=True)
    delays: list[float] = []
    with Program("router", [*FD_ROUTER, "--config_path", str(config)], directory) as router:
        ready = partial(answers, port, post("/v1/chat/completions", BODY % -1))
        started = await asyncio.to_thread(wait_until, lambda: router.has_ended or ready(), START_SECS)
        if not started or router.has_ended:
            raise RuntimeError(router.output.read_text())
        for first in range(0, REQUESTS, AT_ONCE):
            numbers = range(first, first + AT_ONCE)
            times = await asyncio.gather(*(first_byte_at(port, number) for number in numbers))
            delays += [1e3 * (at - decode.sent_at[b"%d" % n]) for n, at in zip(numbers, times, strict=True)]
    for server in servers:
        server.close()
    return sorted(delays)


def main() -> int:
    """Measure and print; 1 if any first byte came later than ``LIMIT_MS``."""
    with tempfile.TemporaryDirectory(prefix="fd-router-bench-") as name:
        delays = uvloop.run(measure(Path(name)))
    late = delays[-1] > LIMIT_MS
    make_console().print(
        f"first byte at the client after decode's, prefill held back for {PREFILL_SECS:g} s, {len(delays)} requests: "
        f"p50 {delays[len(delays) // 2]:.2f} ms, p99 {delays[len(delays) * 99 // 100]:.2f} ms, "
        f"most {delays[-1]:.2f} ms (limit {LIMIT_MS:g} ms: {'missed' if late else 'kept'})"
    )
    return int(late)


if __name__ == "__main__":
    sys.exit(main())
