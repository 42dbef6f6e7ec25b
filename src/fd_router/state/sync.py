"""Keeping in step: one frame an interval out, others' frames in, and what happens when the bus isn't there.

Nothing here is waited for by a request. While the bus is down this process knows of itself alone, which is what the
expiry of the others' leases makes of it by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence

import msgspec

from fd_router.bugs import tell_of_bug
from fd_router.bus import Bus, BusError, BusHealth
from fd_router.errors import UNREADABLE
from fd_router.moments import until_next
from fd_router.state.calls import Calls
from fd_router.state.counters import SyncCounters
from fd_router.state.frames import Frame, FrameError, LayoutError, decode, encode
from fd_router.state.joining import Joining
from fd_router.state.peers import Peers
from fd_router.state.topic import Topic
from fd_router.state.waiting import wait_at_most
from fd_router.telemetry.contracts import Log

HEARTBEAT_SECONDS = 1.0
"""How often a process with nothing new shows that it is alive, and tells its loads whole."""

SOON_SECONDS = HEARTBEAT_SECONDS / 2
"""Who hears another's heartbeat, and is to send its own within so long, sends it now. So all come to be in step, and
each reads them all together: half of the time between two leaves no two groups that are out of step with each other."""

LEASE_SECONDS = 3.5
"""How long a process is taken to be alive after its last frame: three heartbeats, one of which may be late."""

ECHO_SECONDS = 3.0
"""How long a process' own frames may stay away before its place in the stream is taken to be lost."""

RETRY_SECONDS = (0.05, 1.0)
"""Between tries to reach a bus that is down: the first, and the longest."""

QUIET = 10
"""So many intervals without anything to tell make the next ones longer …"""

SLOWER = 2.5
"""… by this: of a thousand instances each look costs as much as a request. With the usual interval they are 50 ms apart
then, at moments that other things share."""

STOOD_SECONDS = 1.0
"""A look that comes so late shows that this process stood still: what others said meanwhile hasn't been read yet."""

AT_ONCE = 32
"""Frames that are taken in before others have their turn."""

MOST_TOLD = 100
"""Different warnings about what others send: whoever writes to the bus can't fill the log."""

BYE = "bye"
_NOTHING = msgspec.Raw(msgspec.msgpack.encode(None))


class Sync:
    """Sends what topics gather, and gives topics what others sent. ``joining`` gets what a new process must know."""

    def __init__(
        self,
        bus: Bus,
        topics: Sequence[Topic],
        peers: Peers,
        *,
        clock: Callable[[], float],
        log: Log,
        counters: SyncCounters,
        health: BusHealth,
        interval: float = 0.02,
    ) -> None:
        """``health`` is told whether the bus works."""
        self._bus = bus
        self._health = health
        self._has_told_down = False
        self._up_since = 0.0
        self._topics = {topic.name: topic for topic in topics}
        self.peers = peers
        self._clock = clock
        self._log = log
        self._counters = counters
        self._interval = interval
        self.joining = Joining(peers, self._topics, self._send_frame)
        self.calls = Calls(peers, self._send_frame)
        self._topics[self.calls.name] = self.calls
        self._number = 0
        self._sent_at: dict[int, float] = {}  # of frames that haven't come back
        self._unsent: list[dict[str, msgspec.Raw]] = []  # what nobody would tell again, since the bus was lost
        self._whole_at = 0.0  # when all is to be told next
        self._quiet = 0  # intervals without anything to tell
        self._flush = asyncio.Event()
        self._turn = asyncio.Lock()  # of what goes to all: nothing must come behind the goodbye
        self._is_leaving = False
        self._told: set[str] = set()  # what can't be read, in a warning each
        self._retry = RETRY_SECONDS[0]

    @property
    def is_up(self) -> bool:
        """Whether the bus works, as far as is known."""
        return self._health.is_up

    def flush(self) -> None:
        """Send what there is now, not when the interval is over."""
        self._flush.set()

    async def run(self) -> None:
        """Keep in step until cancelled."""
        sending: asyncio.Task[None] | None = None
        try:
            while True:
                try:
                    await self._bus.open()
                    self._sent_at.clear()
                    self.calls.is_up_to_date = False
                    self.joining.begin()
                    sending = asyncio.get_running_loop().create_task(self._send_all(), name="state: sending")
                    await self._receive_all(sending)
                except BusError as error:
                    self._on_down(str(error))
                finally:
                    if sending is not None:
                        sending.cancel()
                        await asyncio.gather(sending, return_exceptions=True)
                        sending = None
                await asyncio.sleep(self._retry)
                self._retry = min(self._retry * 2, RETRY_SECONDS[1])
                self._expire()
        finally:
            await self._bus.close()

    async def say_goodbye(self) -> None:
        """Tell the others that this process ends: its loads are to vanish at once. It tells nothing from then on."""
        self._is_leaving = True
        if self.is_up:
            with contextlib.suppress(BusError, TimeoutError):
                async with asyncio.timeout(0.2), self._turn:
                    await self._send_frame({BYE: _NOTHING})

    # sending

    async def _send_all(self) -> None:
        while self._unsent:
            await self._send_frame(self._unsent[0])
            del self._unsent[0]
        while not self._is_leaving:
            await self._wait()
            whole = self._clock() >= self._whole_at
            facts, hashes = self._gather(whole=whole)
            self._quiet = 0 if not whole and (facts or hashes) else self._quiet + 1
            if facts or hashes or whole:
                if whole:
                    self._whole_at = self._clock() + HEARTBEAT_SECONDS
                try:
                    async with self._turn:
                        if not self._is_leaving:
                            await self._send_frame(facts, hashes=hashes, is_whole=whole)
                except BaseException:  # also where the other half has noticed first that the bus is lost
                    self._keep(facts)
                    raise
                _end_if_cancelled()
            self._expire()

    def _keep(self, facts: Mapping[str, msgspec.Raw]) -> None:
        if once := {name: payload for name, payload in facts.items() if self._topics[name].is_told_once}:
            self._unsent.append(once)

    async def _wait(self) -> None:
        interval = self._interval
        if self._quiet > QUIET:
            interval = until_next(interval * SLOWER, asyncio.get_running_loop().time())
        began = self._clock()
        await wait_at_most(self._flush, interval)
        self._flush.clear()
        if (stood := self._clock() - began - interval) > STOOD_SECONDS:
            self.peers.excuse(stood)

    def _gather(self, *, whole: bool) -> tuple[dict[str, msgspec.Raw], dict[str, msgspec.Raw]]:
        facts: dict[str, msgspec.Raw] = {}
        hashes: dict[str, msgspec.Raw] = {}
        for name, topic in self._topics.items():
            if (payload := topic.gather(whole=whole)) is not None:
                (hashes if topic.is_hashes else facts)[name] = msgspec.Raw(payload)
        return facts, hashes

    async def _send_frame(
        self,
        facts: Mapping[str, msgspec.Raw],
        *,
        hashes: Mapping[str, msgspec.Raw] | None = None,
        to: str = "",
        is_whole: bool = False,
    ) -> None:
        self._number += 1
        number = self._number
        data = encode(Frame(self.peers.own, number, facts, hashes or {}, is_whole))
        if not to:
            self._sent_at[number] = self._clock()
        await self._bus.send(data, to)
        self._counters.sent(len(data))

    # receiving

    async def _receive_all(self, sending: asyncio.Task[None]) -> None:
        while True:
            messages = await self._bus.receive()
            _end_if_cancelled()
            await self._take_all(messages)
            if sending.done():
                sending.result()  # raises what ended it
            self._look_for_echo()
            if messages:  # what comes within an interval is read together
                await asyncio.sleep(self._interval)

    async def _take_all(self, messages: Sequence[bytes]) -> None:
        for number, data in enumerate(messages, 1):
            self._take(data)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)

    def _take(self, data: bytes) -> None:
        try:
            frame = decode(data)
        except LayoutError as error:
            self._counters.unreadable("layout")
            if self._is_news(f"layout {error.layout}"):
                self._log.warn(
                    f"Another router's messages have {error}: it is of another version, and nothing is shared with it"
                )
            return
        except FrameError as error:
            self._counters.unreadable("frame")
            if self._is_news("frame"):
                self._log.warn(f"A message on the bus that is none of a router's is passed over: {error}")
            return
        if frame.process == self.peers.own:
            self._on_echo(frame.number)
            return
        self._counters.received(len(data))
        if BYE in frame.facts:
            self._on_gone(frame.process)
            return
        if self.peers.hear(frame.process):
            what = "worker" if _is_sibling(frame.process, self.peers.own) else "router"
            self._log.info(f"Another {what} is there: {frame.process}, {len(self.peers)} with this one")
            self._whole_at = 0.0  # it is to know this one's loads
        elif frame.is_whole and self._whole_at - self._clock() < SOON_SECONDS:
            self._whole_at = 0.0
            self.flush()
        for name, payload in (*frame.facts.items(), *frame.hashes.items()):
            self._take_payload(frame.process, name, payload)

    def _take_payload(self, process: str, name: str, payload: msgspec.Raw) -> None:
        topic = self._topics.get(name)
        try:
            if topic is not None:
                topic.take(process, payload)
            else:
                self.joining.take(process, name, payload)
        except UNREADABLE as error:
            self._counters.unreadable("payload")
            if self._is_news(f"{process} {name}"):
                self._log.warn(f"What {process} tells of {name!r} can't be read: {error}")
        except Exception as error:  # noqa: BLE001  a bug in one topic keeps this process in step with the others' rest
            tell_of_bug(f"a topic failed: {name}", error)

    def _on_echo(self, number: int) -> None:
        sent_at = self._sent_at.pop(number, None)
        if sent_at is None:
            return
        self._counters.lagged(self._clock() - sent_at)
        self.calls.is_up_to_date = True
        self._retry = RETRY_SECONDS[0]
        for older in [one for one in self._sent_at if one < number]:
            del self._sent_at[older]
        self.joining.on_echo()
        if not self._health.is_up:
            self._up_since = self._clock()
        self._health.why = ""
        if self._has_told_down:
            self._has_told_down = False
            self._log.warn(f"The state bus at {self._bus.place} works again")
        if self._clock() - self._up_since > LEASE_SECONDS:  # before, some may not have been heard of yet
            self.peers.settle()

    def _look_for_echo(self) -> None:
        """Raise BusError when what is sent doesn't come back: the stream was emptied, or its clock went back."""
        oldest = next(iter(self._sent_at.values()), None)
        if oldest is not None and self._clock() - oldest > ECHO_SECONDS:
            raise BusError(f"messages don't come back within {ECHO_SECONDS:g} s")

    # the others' ends, the bus' ends

    def _expire(self) -> None:
        for process in self.peers.expire():
            self._forget(process)
            if self.is_up:
                self._log.warn(f"Nothing was heard of the router {process} for {LEASE_SECONDS:g} s: it counts no more")

    def _on_gone(self, process: str) -> None:
        if self.peers.leave(process):
            self._forget(process)
            self._log.info(f"The router {process} has ended; {len(self.peers)} with this one")

    def _forget(self, process: str) -> None:
        for topic in self._topics.values():
            topic.forget(process)

    def _on_down(self, why: str) -> None:
        self._counters.failed()
        self.joining.give_up()
        self._health.why = why
        if not self._has_told_down:
            self._has_told_down = True
            where = self._bus.place
            self._log.warn(
                f"The state bus at {where} can't be had ({why}): this router goes by its own view until it can"
            )

    def _is_news(self, what: str) -> bool:
        """Whether the log wasn't told of this yet."""
        if what in self._told or len(self._told) >= MOST_TOLD:
            return False
        self._told.add(what)
        return True

    def __repr__(self) -> str:
        return f"<Sync {'up' if self.is_up else 'down'}, {len(self.peers)} processes>"


def _end_if_cancelled() -> None:
    """Raise CancelledError if this task was cancelled, and what it waited for took no notice.

    Python 3.11's ``asyncio.wait_for``, which the client uses, does so when its result comes in the same turn.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _is_sibling(process: str, own: str) -> bool:
    """Tell whether both are workers of one router, by their names: ``group/index``."""
    group, slash, _ = process.rpartition("/")
    return bool(slash) and own.startswith(f"{group}/")
