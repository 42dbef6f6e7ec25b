"""An instance that streams: ``sse_instance.py PORT CHUNKS SECONDS_BETWEEN`` answers every POST with that many chunks.

It looks at no more of a request than it must, so that the machine's time is left to the router.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import cast

import uvloop

LIFE_SECS = 900.0
"""After so long it ends by itself, should nobody end it."""

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
HEALTHY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"


def _framed(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


def _token(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return _framed(b"data: %b\n\n" % json.dumps(event, separators=(",", ":")).encode())


TOKEN = _token(" and so on")
LAST = _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"
MODELS = b'{"object":"list","data":[{"id":"m","object":"model"}]}'


class Connection(asyncio.Protocol):
    """Answers one request after the other."""

    def __init__(self, chunks: int, interval: float) -> None:
        self._chunks = chunks
        self._interval = interval
        self._received = b""
        self._left = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        if head.startswith(b"GET"):
            self._received = b""
            self._transport.write(HEALTHY % (len(MODELS), MODELS))
        elif _is_whole(head.lower(), body):
            self._received = b""
            self._left = self._chunks
            self._transport.write(HEAD)
            self._tick()

    def _tick(self) -> None:
        if self._transport.is_closing():
            return
        self._left -= 1
        self._transport.write(TOKEN if self._left else TOKEN + LAST)
        if self._left:
            asyncio.get_running_loop().call_later(self._interval, self._tick)


def _is_whole(head: bytes, body: bytes) -> bool:
    length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
    return len(body) >= int(length) if length else body.endswith(b"0\r\n\r\n")


async def main() -> None:
    """Serve until somebody ends it."""
    port, chunks, interval = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(chunks, interval), "127.0.0.1", port, backlog=4096)
    async with server:
        await asyncio.sleep(LIFE_SECS)


uvloop.run(main())
