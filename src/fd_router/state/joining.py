"""Joining: a process that begins asks one of the others what it should know, and is warm before it is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec

from fd_router.bus import BusError
from fd_router.state.peers import Peers
from fd_router.state.topic import Topic

ALONE_AFTER_SECONDS = 0.2
"""How long after its own greeting came back a process that hears of nobody takes itself to be alone."""

ASK_AGAIN_SECONDS = 0.5
"""How long the one that was asked may be silent before another one is."""

HELLO, HERE, WANT, PART, DONE = "hello", "here", "want", "part", "done"

_NOTHING = msgspec.Raw(msgspec.msgpack.encode(None))
_part = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])


class SendFrame(Protocol):
    """Sends a frame. Raises BusError."""

    def __call__(
        self, facts: Mapping[str, msgspec.Raw], *, hashes: Mapping[str, msgspec.Raw] | None = None, to: str = ""
    ) -> Awaitable[None]:
        """Send ``facts`` and ``hashes`` to all, or to one process."""


class Joining:
    """The greeting (``hello``), the answer (``here``), the question for a snapshot (``want``), and the snapshot.

    The newcomer chooses whom it asks among those who answer, so that nobody waits for one that has died.
    """

    def __init__(self, peers: Peers, topics: Mapping[str, Topic], send: SendFrame) -> None:
        self._peers = peers
        self._topics = topics
        self._send = send
        self._joined = asyncio.Event()
        self._asked = ""  # who is to send the snapshot
        self._tasks: set[asyncio.Task[None]] = set()
        self._hopes: list[asyncio.TimerHandle] = []

    @property
    def is_over(self) -> bool:
        """Whether this process knows what it should, or nobody can tell it."""
        return self._joined.is_set()

    async def wait(self, seconds: float) -> bool:
        """Wait until it is over, so long at most. Returns whether it is."""
        try:
            async with asyncio.timeout(seconds):
                await self._joined.wait()
        except TimeoutError:
            return False
        return True

    def begin(self) -> None:
        """The bus has been opened: greet the others."""
        self._asked = ""
        self._start(self._send({HELLO: _NOTHING}))

    def give_up(self) -> None:
        """The bus can't be had: there is nothing to wait for."""
        self._joined.set()

    def on_echo(self) -> None:
        """The greeting has gone round: those who heard it will answer."""
        if not self.is_over and not self._hopes:
            self._later(ALONE_AFTER_SECONDS, self._on_silence)

    def take(self, process: str, name: str, payload: msgspec.Raw) -> None:
        """Take in one of the messages of joining; any other name is of a newer router's topic, and passed over."""
        if name == HELLO:
            self._start(self._send({HERE: _NOTHING}, to=process))
        elif name == HERE:
            self._ask(process)
        elif name == WANT:
            self._start(self._send_snapshot(process))
        elif name == PART:
            for topic, part in _part.decode(payload).items():
                if topic in self._topics:
                    self._topics[topic].take(process, part)
        elif name == DONE:
            self._joined.set()

    def _ask(self, process: str) -> None:
        if self._asked:
            return
        self._asked = process
        self._start(self._send({WANT: _NOTHING}, to=process))
        self._later(ASK_AGAIN_SECONDS, self._on_silence)

    def _on_silence(self) -> None:
        """Nobody has answered, or who was asked is silent: ask the next one, as long as there is any."""
        self._hopes.clear()
        if self.is_over:
            return
        rest = [process for process in self._peers.others() if process != self._asked]
        if not rest:
            self._joined.set()
            return
        self._asked = ""
        self._ask(rest[0])

    async def _send_snapshot(self, to: str) -> None:
        for name, topic in self._topics.items():
            for payload in topic.snapshot():
                part = {PART: msgspec.Raw(msgspec.msgpack.encode({name: msgspec.Raw(payload)}))}
                await (self._send({}, hashes=part, to=to) if topic.is_hashes else self._send(part, to=to))
                await asyncio.sleep(0)
        await self._send({DONE: _NOTHING}, to=to)

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._hopes.append(asyncio.get_running_loop().call_later(seconds, call))


async def _quietly(work: Awaitable[None]) -> None:
    """Whoever receives notices a bus that is down, and tells of it."""
    try:
        await work
    except BusError:
        return
