"""Dispatch: one process accepts, and hands each connection to the worker that has the fewest.

The kernel's own spread (SO_REUSEPORT) goes by a hash of the addresses: of 64 kept connections the busier of two
workers gets more than 60 % in one case of nine, for as long as they are kept. A socket that all workers accept from
gives a burst to whoever wakes first. Handing a connection over costs some 50 µs, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

MAIN, CONTROL = b"m", b"c"
"""Which port a connection came to."""

END = b"e"
"""No more are going to come."""

READY = b"r"
"""A worker's first word: it takes connections."""

CLOSED = b"n"
"""A worker's word of how many of its connections have ended: this byte and eight more."""

TAKEN = b"t"
"""A worker's word of how many it has taken, before it reads from them: this byte and eight more."""

TELL_SECONDS = 0.02
"""How often a worker tells that, at most."""


Greet = Callable[[socket.socket], None]
"""Takes a connection, and sees to it that it is closed."""


class Outlet:
    """The supervisor's end of one worker's socket."""

    def __init__(self, sock: socket.socket, on_ready: Callable[[], None]) -> None:
        self._sock = sock
        self._on_ready = on_ready
        self._handed_over = 0
        self._taken = self._closed = 0  # of those, by its last word
        self._under_way: deque[tuple[socket.socket, Greet]] = deque()  # not taken yet, as far as it told
        self.is_ready = False
        sock.setblocking(False)
        asyncio.get_running_loop().add_reader(sock, self._on_readable)

    @property
    def connections(self) -> int:
        """How many connections it has, as far as it told."""
        return self._handed_over - self._closed

    def hand_over(self, connection: socket.socket, port: bytes, again: Greet) -> bool:
        """Give the worker a connection. Returns whether it could be; then it isn't the caller's any more.

        ``again`` has it if the worker ends before it has taken it.
        """
        try:
            socket.send_fds(self._sock, [port], [connection.fileno()])
        except OSError:  # it is stuck, or has just died
            return False
        self._handed_over += 1
        self._under_way.append((connection, again))
        return True

    def finish(self) -> None:
        """Tell the worker that no more will come."""
        with contextlib.suppress(OSError):
            self._sock.send(END)

    def close(self) -> None:
        """Let the socket go. Others get the connections that it hasn't taken, from which nothing was read."""
        if self._sock.fileno() < 0:
            return
        self.is_ready = False
        while message := self._read():  # it may have been told before the worker ended
            self._take(message)
        self.is_ready = False
        asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()
        while self._under_way:
            connection, again = self._under_way.popleft()
            again(connection)

    def _on_readable(self) -> None:
        message = self._read()
        if message:
            self._take(message)
        elif message is not None:
            self.close()

    def _read(self) -> bytes | None:
        """Return its next message, b"" when it has ended, None when there is none yet."""
        try:
            return self._sock.recv(64)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _take(self, message: bytes) -> None:
        if message == READY:
            self.is_ready = True
            self._on_ready()
        elif message[:1] == CLOSED:
            self._closed = int.from_bytes(message[1:9], "big")
        elif message[:1] == TAKEN:
            taken = int.from_bytes(message[1:9], "big")
            while self._taken < taken:
                self._taken += 1
                self._under_way.popleft()[0].close()


class Dispatcher:
    """A ``listener.Greeter`` of the supervisor: gives each connection to the worker that has the fewest."""

    def __init__(self, outlets: Callable[[], Sequence[Outlet]], port: bytes) -> None:
        self._outlets = outlets
        self._port = port

    def greet(self, sock: socket.socket) -> None:
        """Hand a connection over; the client of one that nobody takes sees it closed."""
        for outlet in sorted((one for one in self._outlets() if one.is_ready), key=lambda one: one.connections):
            if outlet.hand_over(sock, self._port, self.greet):
                return
        sock.close()


class Inlet:
    """The worker's end: takes connections that are handed over."""

    def __init__(self, descriptor: int) -> None:
        self._sock = socket.socket(fileno=descriptor)
        self._sock.setblocking(False)
        self._sock.set_inheritable(False)
        self._takers: dict[bytes, Callable[[socket.socket], None]] = {}
        self._count: Callable[[], int] = int
        self._taken = self._told = 0
        self._timer: asyncio.TimerHandle | None = None
        self.is_over = False  # no more will come
        self.on_lost: Callable[[], None] = _nothing

    def take(self, port: bytes, taker: Callable[[socket.socket], None]) -> None:
        """Give the connections to ``port`` to ``taker``."""
        self._takers[port] = taker

    def start(self, count: Callable[[], int]) -> None:
        """Say that connections may come; ``count`` tells how many there are."""
        self._count = count
        asyncio.get_running_loop().add_reader(self._sock, self._on_readable)
        self._sock.send(READY)
        self._tell()

    def close(self) -> None:
        """Take no more."""
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()

    def _on_readable(self) -> None:
        came: list[tuple[bytes, Sequence[int]]] = []
        last = self._receive(came)
        if came:
            self._taken += len(came)
            with contextlib.suppress(OSError):
                self._sock.send(TAKEN + self._taken.to_bytes(8, "big"))
        for port, descriptors in came:
            for descriptor in descriptors:  # none, if this process may have no more of them
                self._accept(port, descriptor)
        if last is None:
            return
        was_over, self.is_over = self.is_over, True
        if not last:
            self.close()
            if not was_over:
                self.on_lost()

    def _receive(self, came: list[tuple[bytes, Sequence[int]]]) -> bytes | None:
        """Receive all that is there. Returns END, or b"" when the supervisor has ended; None when more may come."""
        while True:
            try:
                message, descriptors, _, _ = socket.recv_fds(self._sock, 1, 1)
            except BlockingIOError:
                return None
            except OSError:
                return b""
            if not message or message == END:
                return message
            came.append((message, descriptors))

    def _accept(self, port: bytes, descriptor: int) -> None:
        taker = self._takers.get(port)
        if taker is None:
            os.close(descriptor)
            return
        sock = socket.socket(fileno=descriptor)
        sock.setblocking(False)
        taker(sock)

    def _tell(self) -> None:
        closed = max(0, self._taken - self._count())
        if closed != self._told:
            with contextlib.suppress(OSError):
                self._sock.send(CLOSED + closed.to_bytes(8, "big"))
                self._told = closed
        self._timer = asyncio.get_running_loop().call_later(TELL_SECONDS, self._tell)


def _nothing() -> None:
    """Nobody is told."""
