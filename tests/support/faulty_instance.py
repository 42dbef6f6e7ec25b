"""An instance in the test's loop that does to each request what a seed says: well, badly, too early, or never."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from typing import Any

from fd_router.http.reset import reset

MARK = re.compile(rb"mark-[0-9]+-[0-9]+")

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
FLOOD = 1 << 20

FAULTS = {
    "well": 30, "slow": 12, "silent": 2, "stall": 2, "reset at once": 4, "close at once": 4, "head, then reset": 2,
    "reset in the middle": 4, "close in the middle": 4, "early answer": 3, "early answer, then close": 3, "400": 2,
    "401": 1, "404": 1, "429": 3, "500": 4, "502": 2, "503": 4, "504": 1, "given back": 4, "error event": 3,
    "garbage": 2, "too long": 2, "line ends behind": 2, "no length": 2, "interim": 2, "flood": 2, "close when idle": 4,
    "bad chunk": 2,
}  # fmt: skip
"""What may become of a request, and how often."""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def sized(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


class FaultyInstance:
    """Listens at an address of its own while it is up. ``heal`` has it do everything well from then on."""

    def __init__(self, host: str, port: int, dice: random.Random) -> None:
        self.host, self.port = host, port
        self.dice = dice
        self.is_healed = False
        self.did: Counter[str] = Counter()
        self.wrongs: list[str] = []  # what the router did wrong
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._is_rising = False

    async def up(self) -> None:
        """Listen."""
        if not self._is_rising and self._server is None:
            self._is_rising, loop = True, asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: _Connection(self), self.host, self.port, reuse_address=True)
            self._is_rising = False

    def down(self) -> None:
        """Die: connections are reset, new ones refused."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self.connections):
            connection.die()

    def draw(self) -> str:
        """Say what becomes of the next request."""
        kind = "well" if self.is_healed else self.dice.choices([*FAULTS], [*FAULTS.values()])[0]
        self.did[kind] += 1
        return kind


class _Connection(asyncio.Protocol):
    """One connection of the router's."""

    def __init__(self, instance: FaultyInstance) -> None:
        self._instance = instance
        self._received = b""
        self._kind = ""  # of the request under way
        self._task: asyncio.Task[None] | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._instance.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._instance.connections.discard(self)
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def die(self) -> None:
        reset(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._read()

    def _read(self) -> None:
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        if not head.startswith((b"GET ", b"POST ")):
            self._instance.wrongs.append(f"an instance got {head[:60]!r}")
            self._transport.abort()
            return
        found = LENGTH.search(head)
        length = int(found[1]) if found is not None else 0
        is_whole = len(rest) >= length
        if not self._kind:
            self._kind = self._what(head)
            if self._kind.startswith("early") and not is_whole:
                self._transport.write(sized(b"{}", "413 Too Large"))
                if self._kind.endswith("close"):
                    self._transport.close()
                self._kind = "answered"
        if is_whole and self._task is None:
            self._received = rest[length:]
            self._task = asyncio.get_running_loop().create_task(self._answer(self._kind, head, rest[:length]))

    def _what(self, head: bytes) -> str:
        if head.startswith(b"GET "):
            return "well"
        return "abort" if b"/v1/abort_requests" in head[:60] else self._instance.draw()

    async def _answer(self, kind: str, head: bytes, body: bytes) -> None:
        try:
            await self._play(kind, head, body)
        except (ConnectionError, RuntimeError):
            self._transport.abort()
        self._task, self._kind = None, ""
        if self._received and not self._transport.is_closing():
            self._read()

    async def _play(self, kind: str, head: bytes, body: bytes) -> None:
        write, pause = self._transport.write, self._instance.dice.random() * 0.02
        if head.startswith(b"GET ") or kind == "abort":
            write(sized(b"{}"))
        elif kind == "silent":
            await asyncio.sleep(60)
        elif kind == "reset at once":
            self.die()
        elif kind == "close at once":
            self._transport.close()
        elif kind == "head, then reset":
            write(STREAM_HEAD)
            await asyncio.sleep(pause)
            self.die()
        elif kind == "garbage":
            write(b"this is no HTTP\r\n\r\n")
        elif kind.isdigit():
            await asyncio.sleep(pause)
            write(sized(b'{"error": {"message": "no"}}', f"{kind} No", "Retry-After: 1\r\n" if kind == "503" else ""))
        elif kind.startswith("early"):
            write(sized(b"{}", "413 Too Large"))
        elif kind != "answered":
            await self._generate(kind, head, body, pause)

    async def _generate(self, kind: str, head: bytes, body: bytes, pause: float) -> None:
        """Answer with the request's own mark, more or less."""
        found = MARK.search(body)
        mark = found[0] if found is not None else b"none"
        reason = b"pd_reschedule" if kind == "given back" else b"stop"
        event = b'{"choices":[{"index":0,"text":"%b","finish_reason":"%b","completion_token_ids":[1]}]}' % (
            mark,
            reason,
        )
        if b'"stream": true' in body:
            await self._stream(kind, _events(b"/chat/" in head[:60], mark, reason), pause)
        else:
            await self._whole(kind, event, pause)

    async def _whole(self, kind: str, answer: bytes, pause: float) -> None:
        write = self._transport.write
        if kind == "flood":
            answer = b'{"x":"%b","choices":[]}' % (b"f" * FLOOD)
        await asyncio.sleep(pause)
        if kind == "interim":
            write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        if kind == "no length":
            write(b"HTTP/1.1 200 OK\r\n\r\n" + answer)
            self._transport.close()
            return
        message = sized(answer)
        if kind in {"reset in the middle", "close in the middle", "stall"}:
            write(message[:-10])
            await self._break_off(kind)
        elif kind == "slow":
            write(message[:30])
            await asyncio.sleep(pause)
            write(message[30:])
        else:
            write(message + {"too long": b"more", "line ends behind": b"\r\n"}.get(kind, b""))
            if kind == "close when idle":
                await asyncio.sleep(pause)
                self._transport.close()

    async def _stream(self, kind: str, events: list[bytes], pause: float) -> None:
        write = self._transport.write
        write(STREAM_HEAD)
        for number, event in enumerate(events):
            if kind == "slow":
                await asyncio.sleep(pause)
            await self._may_write.wait()
            write(chunk(b"data: %b\n\n" % event) if kind != "bad chunk" or number < 2 else b"zz\r\n")
            if kind == "flood":
                write(chunk(b"data: %b\n\n" % (b"f" * (FLOOD // 4))))
            if number == 1 and kind in {"reset in the middle", "close in the middle", "stall"}:
                await self._break_off(kind)
                return
            if number == 1 and kind == "error event":
                write(chunk(b'data: {"error": {"message": "dead", "code": 500}}\n\n'))
                break
        write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n" + {"too long": b"more"}.get(kind, b""))

    async def _break_off(self, kind: str) -> None:
        await asyncio.sleep(0.005)
        if kind == "stall":
            await asyncio.sleep(60)
        elif kind.startswith("reset"):
            self.die()
        else:
            self._transport.close()


def _events(is_chat: bool, mark: bytes, reason: bytes) -> list[bytes]:
    """Return the events of a stream of four tokens; the last, or each of one that is given back, tells why it ends."""
    events = []
    for number in range(4):
        is_end = number == 3 or reason != b"stop"
        text = b'"%b "' % mark
        events.append(
            b'{"id":"x","object":"%b","created":1,"model":"m","choices":[{"index":0,%b,"finish_reason":%b,'
            b'"%b":[%d]}]}'
            % (
                b"chat.completion.chunk" if is_chat else b"text_completion",
                b'"delta":{"content":%b}' % text if is_chat else b'"text":%b' % text,
                b'"%b"' % reason if is_end else b"null",
                b"completion_token_ids" if reason != b"stop" or number % 2 == 0 else b"token_ids",
                number + 1,
            )
        )
    return events
