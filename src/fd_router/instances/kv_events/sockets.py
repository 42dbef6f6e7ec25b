"""The sockets of KV events: ZeroMQ's (``pyzmq``, an extra), looked at by one timer for all.

A message costs less the more of them are taken at once, and none is urgent to the millisecond: so nobody is woken by
each. An engine's publisher is a PUB socket, its replays come from a ROUTER socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from fd_router.config.host_names import authority
from fd_router.engines.kv_sources import KvEventSource
from fd_router.instances.kv_events.stream import Cache, EventStream

INTERVAL_SECS: Final = 0.005
"""Between two looks. What an engine has evicted is thought to be there for so long."""

MORE_SECS: Final = 0.0003
"""What each socket adds to that: looking at one takes about 1 us, so all looking takes some 0.3 % of a core."""

AT_ONCE_SECS: Final = 0.002
"""How long messages are taken at a stretch: requests have their turn in between."""

AGAIN_SECS: Final = 0.002
"""When the rest is looked at."""

MAX_MESSAGE: Final = 4 << 20
"""Bytes; ZeroMQ ends a connection that sends more. A step of 20,000 tokens, each a page of its own, has less."""

QUEUED: Final = 100_000
"""Messages that ZeroMQ keeps for a socket which isn't looked at."""

KEEPALIVE_SECS: Final = 30

NUMBER_BYTES: Final = 8

END: Final = b"\xff" * 8
"""The number that ends a replay."""


Take = Callable[[bytes, bytes, float], None]
"""(number, payload, monotonic seconds)."""


def zmq_problem() -> str:
    """Say why there can be no sockets; "" when there can."""
    try:
        import zmq  # noqa: F401, PLC0415  (an extra, which only those who follow KV events need)
    except ImportError:
        return "the package 'pyzmq' isn't installed: pip install 'pyzmq>=25'"
    return ""


class Subscription:
    """Follows one rank's events."""

    def __init__(self, sockets: Sockets, host: str, source: KvEventSource, cache: Cache) -> None:
        self._sockets = sockets
        self._host = source.host or host
        self._source = source
        self._events = sockets.open(sockets.zmq.SUB, self._place(source.port), self._on_batch)
        self._events.subscribe(source.topic.encode())
        self._replay: Any = None
        self.cache = cache
        self.stream = EventStream(cache, self._ask if source.replay_port else None)

    def _place(self, port: int) -> str:
        return f"tcp://{authority(self._host, port)}"

    def _ask(self, number: int) -> None:
        """Ask on a connection of its own, so that no late answer to another question comes on it.

        Where there can be none (no descriptors are left), that is no answer: it is asked again later.
        """
        self._hang_up()
        zmq = self._sockets.zmq
        try:
            self._replay = self._sockets.open(zmq.DEALER, self._place(self._source.replay_port), self._on_replayed)
        except zmq.ZMQError:
            return
        self._replay.send_multipart((b"", number.to_bytes(NUMBER_BYTES, "big")), zmq.NOBLOCK)

    def _hang_up(self) -> None:
        if self._replay is not None:
            self._sockets.shut(self._replay)
            self._replay = None

    def _on_batch(self, number: bytes, payload: bytes, now: float) -> None:
        self.stream.on_batch(int.from_bytes(number, "big"), payload, now)

    def _on_replayed(self, number: bytes, payload: bytes, now: float) -> None:
        if number != END:
            self.stream.on_replayed(int.from_bytes(number, "big"), payload, now)
            if self.stream.is_amid:
                self._sockets.unfinished.append(self.stream)
            return
        self._hang_up()
        self.stream.on_replay_end(now)

    def close(self) -> None:
        """Listen no more."""
        self._hang_up()
        self._sockets.shut(self._events)
        self._sockets.subscriptions.remove(self)
        if self.stream in self._sockets.unfinished:
            self._sockets.unfinished.remove(self.stream)

    def __repr__(self) -> str:
        return f"<Subscription {self._place(self._source.port)} {self.stream!r}>"


class Sockets:
    """All sockets, and the timer by which they are looked at. Raises ImportError where there is no ZeroMQ."""

    def __init__(self, clock: Callable[[], float], on_looked: Callable[[], None]) -> None:
        import zmq  # noqa: PLC0415

        self.zmq: Any = zmq
        self.subscriptions: list[Subscription] = []
        self.unfinished: list[EventStream] = []  # of which no further replayed batch can be taken yet
        self._clock = clock
        self._on_looked = on_looked
        self._context = zmq.Context()
        self._context.max_sockets = self._context.get(zmq.SOCKET_LIMIT)  # 1023 else: 500 ranks and their replays
        self._poller: Any = zmq.Poller()
        self._takers: dict[Any, Take] = {}  # by socket
        self._ready: list[Any] = []  # those that had a message and haven't had their turn, the next one last
        self._timer = self._later(INTERVAL_SECS)

    def open(self, kind: int, place: str, take: Take) -> Any:
        """Connect a socket to ``place``; ``take`` is given what comes. Raises zmq.ZMQError."""
        zmq = self.zmq
        socket = self._context.socket(kind)
        for option, value in (
            (zmq.LINGER, 0), (zmq.RCVHWM, QUEUED), (zmq.MAXMSGSIZE, MAX_MESSAGE), (zmq.RECONNECT_IVL, 100),
            (zmq.RECONNECT_IVL_MAX, 2000), (zmq.IPV6, 1), (zmq.TCP_KEEPALIVE, 1),
            (zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_SECS),
        ):  # fmt: skip
            socket.setsockopt(option, value)
        try:
            socket.connect(place)
        except zmq.ZMQError:
            socket.close()
            raise
        self._poller.register(socket, zmq.POLLIN)
        self._takers[socket] = take
        return socket

    def shut(self, socket: Any) -> None:
        """Close a socket."""
        self._poller.unregister(socket)
        del self._takers[socket]
        socket.close()

    def close(self) -> None:
        """End all."""
        self._timer.cancel()
        for subscription in tuple(self.subscriptions):
            subscription.close()
        self._context.destroy(linger=0)  # ``term`` would wait for a socket that somebody forgot

    def _later(self, seconds: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        has_more = True
        try:
            has_more = self._take_what_came()
        finally:  # a bug with what one engine tells must not end the others'
            self._timer = self._later(AGAIN_SECS if has_more else INTERVAL_SECS + MORE_SECS * len(self._takers))

    def _take_what_came(self) -> bool:
        """Take as much as there is time for. Returns whether there is more."""
        now = self._clock()
        limit = now + AT_ONCE_SECS
        has_more = self._finish(now, limit) or self._receive_some(now, limit)
        has_more = self._catch_up(now, limit) or has_more
        self._on_looked()
        return has_more

    def _finish(self, now: float, limit: float) -> bool:
        """Go on with large batches that were replayed. Returns whether there is more of them."""
        while self.unfinished and self._clock() < limit:
            if self.unfinished[-1].is_amid:
                self.unfinished[-1].catch_up(now)
            else:
                self.unfinished.pop()
        return bool(self.unfinished)

    def _receive_some(self, now: float, limit: float) -> bool:
        """Take a message of each socket by turns. Returns whether there may be more."""
        clock, ready = self._clock, self._ready
        while clock() < limit and not self.unfinished:
            if not ready:
                ready += [socket for socket, _ in reversed(self._poller.poll(0))]
                if not ready:
                    return False
            self._receive(ready.pop(), now)
        return True

    def _catch_up(self, now: float, limit: float) -> bool:
        """Look at the time of all streams, and go on with those that are behind. Returns whether some still are."""
        behind = []
        for subscription in self.subscriptions:
            subscription.stream.tick(now)
            if subscription.stream.has_more:
                behind.append(subscription.stream)
        while behind:  # of one at least: else those that are busy would leave no time for it
            behind[-1].catch_up(now)
            if not behind[-1].has_more:
                behind.pop()
            if self._clock() >= limit:
                break
        return bool(behind)

    def _receive(self, socket: Any, now: float) -> None:
        """Take a message of three frames: something, a number, a payload.

        Whether there are more frames isn't asked before the third, since asking costs more than a frame. Where a
        message has fewer, the next one is lost with it: that is a gap as any other.
        """
        zmq, take = self.zmq, self._takers.get(socket)
        if take is None:  # closed meanwhile
            return
        try:
            socket.recv(zmq.NOBLOCK)
            number, payload = socket.recv(zmq.NOBLOCK), socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return
        while socket.getsockopt(zmq.RCVMORE):
            number, payload = payload, socket.recv(zmq.NOBLOCK)
        if len(number) == NUMBER_BYTES:
            take(number, payload, now)

    def __repr__(self) -> str:
        return f"<Sockets of {len(self.subscriptions)} subscriptions>"


class Subscriptions:
    """Opens subscriptions. Nothing is imported, and no timer runs, before the first one."""

    def __init__(self, clock: Callable[[], float], on_looked: Callable[[], None]) -> None:
        """``on_looked`` is called when all that has come was given to the caches."""
        self._clock = clock
        self._on_looked = on_looked
        self._sockets: Sockets | None = None

    def add(self, host: str, source: KvEventSource, cache: Cache) -> Subscription:
        """Follow a source at ``host``. Raises OSError where it can't be."""
        if self._sockets is None:
            self._sockets = Sockets(self._clock, self._on_looked)
        try:
            subscription = Subscription(self._sockets, host, source, cache)
            subscription.stream.begin(self._clock())
        except self._sockets.zmq.ZMQError as error:
            raise OSError(str(error)) from None
        self._sockets.subscriptions.append(subscription)
        return subscription

    def all(self) -> Sequence[Subscription]:
        """Return all."""
        return () if self._sockets is None else tuple(self._sockets.subscriptions)

    def close(self) -> None:
        """End all."""
        if self._sockets is not None:
            self._sockets.close()
            self._sockets = None

    def __repr__(self) -> str:
        return f"<Subscriptions {len(self.all())} open>"
