"""How a prefill mock instance hands over KV caches: small POSTs, pipelined on one kept connection a decode instance."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools

PATH = "/mock/kv"
CONNECT_SECS = 3.0

OnAnswer = Callable[[str], None]
"""Gets what went wrong; "" when nothing did."""


class _Message:
    """One message on its way."""

    __slots__ = ("again", "message", "on_answer")

    def __init__(self, message: bytes, on_answer: OnAnswer) -> None:
        self.message = message
        self.on_answer = on_answer
        self.again = False


class KvSender:
    """The links of one prefill instance, made when first needed."""

    def __init__(self) -> None:
        self._links: dict[tuple[str, int], _Link] = {}

    def post(self, host: str, port: int, message: bytes, on_answer: OnAnswer) -> None:
        """Send ``message`` (JSON); ``on_answer`` is called once, later."""
        link = self._links.get((host, port))
        if link is None:
            link = self._links[host, port] = _Link(host, port)
        link.post(_Message(message, on_answer))

    def close(self) -> None:
        """End every link; what is under way is never answered."""
        for link in self._links.values():
            link.close()
        self._links.clear()


class _Link:
    """The way to one decode instance."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._waiting: list[_Message] = []
        self._wire: _Connection | None = None
        self._connecting: asyncio.Task[None] | None = None

    def post(self, posting: _Message) -> None:
        if self._wire is not None:
            self._wire.post(posting)
            return
        self._waiting.append(posting)
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self._wire is not None:
            self._wire.close()

    async def _connect(self) -> None:
        loop, trouble, wire = asyncio.get_running_loop(), "", None
        try:
            async with asyncio.timeout(CONNECT_SECS):
                _, wire = await loop.create_connection(self._make_wire, self._host, self._port)
        except OSError as error:  # TimeoutError is one
            trouble = f"can't connect to {self._host}:{self._port}: {str(error) or 'no answer'}"
        self._connecting = None
        self._wire = wire if wire is not None and not wire.is_lost else None
        waiting, self._waiting = self._waiting, []
        for posting in waiting:
            if self._wire is not None:
                self._wire.post(posting)
            else:
                posting.on_answer(trouble or f"{self._host}:{self._port} closed the connection")

    def _make_wire(self) -> _Connection:
        return _Connection(f"{self._host}:{self._port}", self._on_lost)

    def _on_lost(self, wire: _Connection, unanswered: deque[_Message]) -> None:
        if self._wire is wire:
            self._wire = None
        for posting in unanswered:
            # An idle connection may be closed while a message is on its way; it is sent again, once.
            if wire.answers and not posting.again:
                posting.again = True
                self.post(posting)
            else:
                posting.on_answer(f"{self._host}:{self._port} closed the connection")


class _Connection(asyncio.Protocol):
    """One connection: messages out, answers in, in the same order."""

    def __init__(self, authority: str, on_lost: Callable[[_Connection, deque[_Message]], None]) -> None:
        self._authority = authority
        self._on_lost = on_lost
        self._unanswered: deque[_Message] = deque()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self.answers = 0
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.is_lost = True
        unanswered, self._unanswered = self._unanswered, deque()
        self._on_lost(self, unanswered)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_complete(self) -> None:
        self.answers += 1
        status = self._parser.get_status_code()
        if self._unanswered:
            self._unanswered.popleft().on_answer("" if status == 200 else f"{self._authority} answered {status}")

    def post(self, posting: _Message) -> None:
        self._unanswered.append(posting)
        if not self._transport.is_closing():  # else connection_lost will find it
            head = f"POST {PATH} HTTP/1.1\r\nhost: {self._authority}\r\ncontent-length: {len(posting.message)}\r\n\r\n"
            self._transport.write(head.encode("ascii") + posting.message)

    def close(self) -> None:
        self._unanswered.clear()
        self._transport.abort()
