"""A client that a seed has planned: what it sends, how, and when it has had enough. It checks what it gets."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any, NamedTuple

from fd_router.http.reset import reset

PATHS = ("/v1/chat/completions", "/v1/completions")
LIMIT_SECS = 40.0
"""How long an answer may take at most: far more than all time limits of the router together."""

MANNERS = {
    "waits": 50, "leaves": 10, "resets": 6, "sends half": 4, "sends slowly": 6, "pipelines": 8, "no JSON": 2,
    "HTTP/1.0": 4, "reads late": 4, "in chunks": 4, "keeps": 10,
}  # fmt: skip


class Plan(NamedTuple):
    """What one client does."""

    number: int
    at: float  # seconds
    manner: str
    requests: int
    stream: bool
    size: int  # bytes of the prompt, about
    key: str
    session: str
    priority: str
    patience: float  # seconds, for one that leaves
    has_id: bool


def draw_plan(number: int, dice: random.Random, keys: tuple[str, ...], seconds: float) -> Plan:
    manner = dice.choices([*MANNERS], [*MANNERS.values()])[0]
    return Plan(
        number,
        round(dice.random() * seconds, 3),
        manner,
        dice.randrange(2, 5) if manner in {"pipelines", "keeps"} else 1,
        dice.random() < 0.5,
        dice.choice((10, 10, 100, 3_000, 20_000, 100_000, 400_000)),
        dice.choice(keys) if keys else "",
        dice.choice(("", "", "s1", "s2")),
        dice.choice(("", "", "high", "low")),
        round(dice.random() * 0.15, 3),
        dice.random() < 0.4,
    )


class RandomClient:
    """Carries a plan out. ``wrongs`` says what it got that nobody may get."""

    def __init__(self, plan: Plan, port: int) -> None:
        self.plan = plan
        self.wrongs: list[str] = []
        self.statuses: list[int] = []
        self._port = port

    async def run(self) -> None:
        await asyncio.sleep(self.plan.at)
        try:
            async with asyncio.timeout(LIMIT_SECS):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 22)
                try:
                    await self._talk(reader, writer)
                finally:
                    writer.close()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # it sees that there is no (whole) answer
        except TimeoutError:
            self.wrongs.append(f"{self.plan} got no answer within {LIMIT_SECS:g} s")

    def _message(self, index: int) -> bytes:
        plan = self.plan
        body: dict[str, Any] = {"prompt": f"mark-{plan.number}-{index} " + "word " * (plan.size // 5)}
        if plan.stream:
            body["stream"] = True
        if plan.has_id:
            body["request_id"] = f"r-{plan.number % 40}"
        if plan.session:
            body["session_id"] = plan.session
        text = json.dumps(body).encode() if plan.manner != "no JSON" else b'{"prompt": mark'
        return self._head(len(text)) + (chunks(text) if plan.manner == "in chunks" else text)

    def _head(self, length: int) -> bytes:
        plan = self.plan
        lines = [f"POST {PATHS[plan.number % 2]} HTTP/{'1.0' if plan.manner == 'HTTP/1.0' else '1.1'}", "Host: x"]
        lines.append("Transfer-Encoding: chunked" if plan.manner == "in chunks" else f"Content-Length: {length}")
        if plan.key:
            lines.append(f"Authorization: Bearer {plan.key}")
        if plan.priority:
            lines.append(f"X-Priority: {plan.priority}")
        return "\r\n".join([*lines, "", ""]).encode()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        plan = self.plan
        if plan.manner == "pipelines":
            writer.write(b"".join(self._message(index) for index in range(plan.requests)))
            for index in range(plan.requests):
                await self._read(reader, index)
            return
        for index in range(plan.requests):
            await self._send(writer, self._message(index))
            if plan.manner in {"leaves", "resets", "sends half"}:
                await asyncio.sleep(plan.patience)
                if plan.manner == "resets":
                    reset(writer.transport)  # type: ignore[arg-type]
                return
            if plan.manner == "reads late":
                await asyncio.sleep(plan.patience * 2)
            if not await self._read(reader, index):
                return

    async def _send(self, writer: asyncio.StreamWriter, message: bytes) -> None:
        if self.plan.manner == "sends half":
            message = message[: len(message) // 2]
        if self.plan.manner == "sends slowly":
            for start in range(0, len(message), len(message) // 4 + 1):
                writer.write(message[start : start + len(message) // 4 + 1])
                await asyncio.sleep(self.plan.patience / 8)
        else:
            writer.write(message)

    async def _read(self, reader: asyncio.StreamReader, index: int) -> bool:
        """Read one answer. Returns whether the connection serves on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        version, status = head.split(" ", 2)[:2]
        if not version.startswith("HTTP/1.") or not status.isdigit():
            self.wrongs.append(f"{self.plan} got {head[:100]!r} for an answer")
            return False
        self.statuses.append(int(status))
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:-2])
        body = await self._read_body(reader, fields)
        self._check(int(status), body, index)
        return fields.get("connection") != "close" and self.plan.manner != "HTTP/1.0"

    async def _read_body(self, reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
        if "content-length" in fields:
            return await reader.readexactly(int(fields["content-length"]))
        if fields.get("transfer-encoding") != "chunked":
            return await reader.read()
        pieces = []
        while size := int((await reader.readuntil(b"\r\n")).strip() or b"x", 16):
            pieces.append((await reader.readexactly(size + 2))[:-2])
        await reader.readexactly(2)
        return b"".join(pieces)

    def _check(self, status: int, body: bytes, index: int) -> None:
        mark = b"mark-%d-%d" % (self.plan.number, index)
        if status == 200 and b'"choices":[{' in body and mark not in body:
            self.wrongs.append(f"{self.plan} got somebody else's answer: {body[:100]!r}")
        if body.count(b"[DONE]") > 1:
            self.wrongs.append(f"{self.plan} got a stream that ends twice: {body[-300:]!r}")


def chunks(text: bytes) -> bytes:
    parts = [text[start : start + 5000] for start in range(0, len(text), 5000)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
