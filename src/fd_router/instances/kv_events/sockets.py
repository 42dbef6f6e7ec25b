"""The sockets of KV events: ZeroMQ's (``pyzmq``, an extra), looked at by one timer for all.

A message costs less the more of them are taken at once, and none is urgent to the millisecond: so nobody is woken by
each. An engine's publisher is a PUB socket, its replays come from a ROUTER socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from fd_router.engines.kv_sources import KvEventSource
from fd_router.instances.kv_events.stream import Cache, EventStream

INTERVAL_SECS: Final = 0.02

AT_ONCE_SECS: Final = 0.004
"""How long messages are taken at a stretch: requests have their turn in between."""

AGAIN_SECS: Final = 0.002
"""When the rest is looked at."""

MAX_MESSAGE: Final = 64 << 20
"""Bytes; ZeroMQ ends a connection that sends more."""

QUEUED: Final = 100_000
"""Messages that ZeroMQ keeps for a socket which isn't looked at."""

KEEPALIVE_SECS: Final = 30

END: Final = b"\xff" * 8
"""The number that ends a replay."""


def zmq_problem() -> str:
    """Say why there can be no sockets; "" when there can."""
    try:
        import zmq  # noqa: F401, PLC0415  (an extra, which only those who follow KV events need)
    except ImportError:
        return "the package 'pyzmq' isn't installed: pip install 'pyzmq>=25'"
    return ""


class Subscription:
    """Follows one rank's events."""

    def __init__(
        self,
        context: Any,
        host: str,
        source: KvEventSource,
        cache: Cache,
        on_close: Callable[[Subscription], None],
    ) -> None:
        import zmq  # noqa: PLC0415

        self._zmq = zmq
        self._context = context
        self._on_close = on_close
        self._host = source.host or host
        self._source = source
        self._events = self._socket(zmq.SUB)
        self._events.subscribe(source.topic.encode())
        self._events.connect(self._place(source.port))
        self._replay: Any = None
        self.cache = cache
        self.stream = EventStream(cache, self._ask if source.replay_port else None)

    def _socket(self, kind: int) -> Any:
        zmq = self._zmq
        socket = self._context.socket(kind)
        for option, value in (
            (zmq.LINGER, 0), (zmq.RCVHWM, QUEUED), (zmq.MAXMSGSIZE, MAX_MESSAGE), (zmq.RECONNECT_IVL, 100),
            (zmq.RECONNECT_IVL_MAX, 2000), (zmq.IPV6, 1), (zmq.TCP_KEEPALIVE, 1),
            (zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_SECS),
        ):  # fmt: skip
            socket.setsockopt(option, value)
        return socket

    def _place(self, port: int) -> str:
        host = self._host
        return f"tcp://[{host}]:{port}" if ":" in host and not host.startswith("[") else f"tcp://{host}:{port}"

    def _ask(self, number: int) -> None:
        """Ask on a connection of its own, so that no late answer to another question comes on it."""
        self._hang_up()
        zmq = self._zmq
        self._replay = self._socket(zmq.DEALER)
        self._replay.connect(self._place(self._source.replay_port))
        self._replay.send_multipart((b"", number.to_bytes(8, "big")), zmq.NOBLOCK)

    def _hang_up(self) -> None:
        if self._replay is not None:
            self._replay.close()
            self._replay = None

    def look(self, now: float, is_over: Callable[[], bool]) -> bool:
        """Take what has come. Returns whether there is more."""
        stream = self.stream
        if self._replay is not None:
            for frames in self._messages(self._replay, is_over):
                if frames is None:
                    return True
                number, payload = frames
                if number == END:
                    self._hang_up()
                    stream.on_replay_end(now)
                    break
                stream.on_replayed(int.from_bytes(number, "big"), payload, now)
        for frames in self._messages(self._events, is_over):
            if frames is None:
                return True
            stream.on_batch(int.from_bytes(frames[0], "big"), frames[1], now)
        stream.tick(now)
        return False

    def _messages(self, socket: Any, is_over: Callable[[], bool]) -> Iterator[tuple[bytes, bytes] | None]:
        """Give (number, payload) of what has come; None when the time is over. Other frames are passed over."""
        zmq = self._zmq
        while socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            frames = socket.recv_multipart(zmq.NOBLOCK)
            if len(frames) >= 3 and len(frames[-2]) == 8:
                yield frames[-2], frames[-1]
            if is_over():
                yield None
                return

    def close(self) -> None:
        """Listen no more."""
        self._hang_up()
        self._events.close()
        self._on_close(self)

    def __repr__(self) -> str:
        return f"<Subscription {self._place(self._source.port)} {self.stream!r}>"


class Subscriptions:
    """All of them, and the timer. Nothing is imported or opened before the first one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._context: Any = None
        self._error: type[Exception] = OSError
        self._timer: asyncio.TimerHandle | None = None
        self._open: list[Subscription] = []
        self._next = 0  # whose turn it is

    def add(self, host: str, source: KvEventSource, cache: Cache) -> Subscription:
        """Follow a source at ``host``. Raises OSError for an address that is none."""
        if self._context is None:
            import zmq  # noqa: PLC0415

            self._context, self._error = zmq.Context(), zmq.ZMQError
        try:
            subscription = Subscription(self._context, host, source, cache, self._open.remove)
        except self._error as error:
            raise OSError(str(error)) from None
        self._open.append(subscription)
        subscription.stream.begin(self._clock())
        if self._timer is None:
            self._later(INTERVAL_SECS)
        return subscription

    def all(self) -> Sequence[Subscription]:
        """Return all."""
        return tuple(self._open)

    def close(self) -> None:
        """End all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for subscription in tuple(self._open):
            subscription.close()
        if self._context is not None:
            self._context.term()
            self._context = None

    def _later(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        """Look at each once, or until the time is over; who had no turn is first the next time."""
        self._timer = None
        if not self._open:
            return
        clock = self._clock
        now = clock()
        limit = now + AT_ONCE_SECS

        def is_over() -> bool:
            return clock() > limit

        has_more = False
        for _ in range(len(self._open)):
            self._next = (self._next + 1) % len(self._open)
            has_more = self._open[self._next].look(now, is_over) or has_more
            if is_over():
                has_more = True
                break
        self._later(AGAIN_SECS if has_more else INTERVAL_SECS)

    def __repr__(self) -> str:
        return f"<Subscriptions {len(self._open)} open>"
