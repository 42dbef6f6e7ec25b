"""The bus of a worker: a connection to the hub in its supervisor."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import cast

import msgspec

from fd_router.bus import Ask, BusError, Grant
from fd_router.state.local.wire import Order, Reply, Splitter, read_reply, written
from fd_router.state.waiting import wait_at_most

READ_SECONDS = 0.5
"""How long ``receive`` waits for messages."""

ANSWER_SECONDS = 1.0
"""How long the hub may take to answer an order."""


class LocalBus(asyncio.Protocol):
    """See ``bus.Bus``. The socket is the supervisor's end of this worker's life: once closed, it stays so."""

    def __init__(self, sock: socket.socket, on_lost: Callable[[], None]) -> None:
        """``on_lost`` is called when the supervisor is gone."""
        self._sock = sock
        self._on_lost = on_lost
        self._splitter = Splitter()
        self._transport: asyncio.Transport | None = None
        self._messages: list[bytes] = []
        self._came = asyncio.Event()
        self._number = 0
        self._answers: dict[int, asyncio.Future[Reply]] = {}
        self._is_lost = False

    @property
    def place(self) -> str:
        """See ``Bus``."""
        return "the supervisor"

    async def open(self) -> None:
        """See ``Bus``."""
        if self._is_lost:
            raise BusError("the supervisor has ended")
        if self._transport is None:
            await asyncio.get_running_loop().create_connection(lambda: self, sock=self._sock)

    async def send(self, data: bytes, to: str = "") -> None:
        """See ``Bus``."""
        self._order(Order(0, "send", data, to))

    async def receive(self) -> Sequence[bytes]:
        """See ``Bus``."""
        if not self._messages:
            await wait_at_most(self._came, READ_SECONDS)
        if self._is_lost:
            raise BusError("the supervisor has ended")
        self._came.clear()
        messages, self._messages = self._messages, []
        return messages

    async def lease(self, name: str, secs: float) -> bool:
        """See ``Bus``."""
        return (await self._ask(Order(self._next(), "lease", name=name, secs=secs))).is_taken

    async def reserve(self, asks: Sequence[Ask]) -> Sequence[Grant]:
        """See ``Bus``."""
        return (await self._ask(Order(self._next(), "reserve", asks=list(asks)))).grants

    async def settle(self, ask: Ask, requests: int) -> None:
        """See ``Bus``."""
        self._order(Order(0, "settle", asks=[ask], count=requests))

    async def close(self) -> None:
        """See ``Bus``."""
        self._is_lost = True  # by its own will: nobody is to be told
        if self._transport is not None:
            self._transport.close()

    def _next(self) -> int:
        self._number += 1
        return self._number

    async def _ask(self, order: Order) -> Reply:
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._answers[order.number] = answer
        try:
            self._order(order)
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            raise BusError(f"no answer within {ANSWER_SECONDS:g} s") from None
        finally:
            del self._answers[order.number]

    def _order(self, order: Order) -> None:
        if self._transport is None or self._is_lost:
            raise BusError("the supervisor has ended" if self._is_lost else "it wasn't reached yet")
        self._transport.write(written(order))

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        try:
            replies = [read_reply(body) for body in self._splitter.feed(data)]
        except (ValueError, msgspec.MsgspecError):  # a bug of the supervisor's
            if self._transport is not None:
                self._transport.abort()
            return
        for reply in replies:
            if not reply.number:
                self._messages.append(reply.data)
            elif (answer := self._answers.get(reply.number)) is not None and not answer.done():
                answer.set_result(reply)
        if self._messages:
            self._came.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """See ``asyncio.Protocol``."""
        was_lost, self._is_lost = self._is_lost, True
        self._came.set()
        if not was_lost:
            self._on_lost()

    def __repr__(self) -> str:
        return f"<LocalBus {'lost' if self._is_lost else 'open' if self._transport is not None else 'not open'}>"
