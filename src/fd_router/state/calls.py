"""Calls: a question to all other processes, and their answers: for what one admin's request has to do everywhere."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable

import msgspec

from fd_router.bus import BusError
from fd_router.errors import FdRouterError
from fd_router.state.joining import SendFrame
from fd_router.state.peers import Peers
from fd_router.state.topic import Topic

Answer = Callable[[bytes], Awaitable[bytes]]
"""Does what a question asks for, and returns what is to be told of it."""


class _Call(msgspec.Struct, array_like=True):
    """A question of the ``kind`` that it names, or, without one, the answer to it."""

    id: str
    kind: str
    body: bytes


class _Asked:
    """A question that is under way."""

    __slots__ = ("answers", "done", "missing")

    def __init__(self, missing: set[str]) -> None:
        self.missing = missing
        self.answers: dict[str, bytes] = {}
        self.done = asyncio.Event()


_decoder = msgspec.msgpack.Decoder(_Call)


class Calls(Topic):
    """Asks, and answers by the functions that ``on`` was given. A process that doesn't know a kind answers nothing."""

    name = "calls"

    def __init__(self, peers: Peers, send: SendFrame) -> None:
        self._peers = peers
        self._send = send
        self._handlers: dict[str, Answer] = {}
        self._asked: dict[str, _Asked] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.is_up_to_date = False
        """Whether what comes was asked since the bus was opened: what is read before may have been meant for then."""

    def on(self, kind: str, answer: Answer) -> None:
        """Answer questions of this kind from now on."""
        self._handlers[kind] = answer

    async def ask(self, kind: str, body: bytes, seconds: float) -> dict[str, bytes]:
        """Ask all others. Returns the answers, by process, that came within ``seconds``; without a bus, none."""
        missing = set(self._peers.others())
        if not missing:
            return {}
        call = secrets.token_hex(8)
        asked = self._asked[call] = _Asked(missing)
        try:
            async with asyncio.timeout(seconds):
                await self._send({self.name: _raw(_Call(call, kind, body))})
                await asked.done.wait()
        except (BusError, TimeoutError):
            pass  # what has come is better than nothing
        finally:
            del self._asked[call]
        return asked.answers

    def take(self, process: str, payload: msgspec.Raw) -> None:
        """See ``Topic``."""
        call = _decoder.decode(payload)
        if not call.kind:
            self._on_answer(process, call)
        elif self.is_up_to_date and (handler := self._handlers.get(call.kind)) is not None:
            task = asyncio.get_running_loop().create_task(
                self._answer(process, call, handler), name=f"call {call.kind}"
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def forget(self, process: str) -> None:
        """See ``Topic``: nobody waits for it any more."""
        for asked in self._asked.values():
            asked.missing.discard(process)
            if not asked.missing:
                asked.done.set()

    def _on_answer(self, process: str, call: _Call) -> None:
        asked = self._asked.get(call.id)
        if asked is None:
            return
        asked.answers[process] = call.body
        asked.missing.discard(process)
        if not asked.missing:
            asked.done.set()

    async def _answer(self, process: str, call: _Call, handler: Answer) -> None:
        try:
            body = await handler(call.body)
        except FdRouterError:
            return  # a question that no router asks, or none of this version's
        try:
            await self._send({self.name: _raw(_Call(call.id, "", body))}, to=process)
        except BusError:
            return  # nobody hears it


def _raw(call: _Call) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(call))
