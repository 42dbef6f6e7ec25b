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
from collections.abc import Callable, Sequence

MAIN, CONTROL = b"m", b"c"
"""Which port a connection came to."""

END = b"e"
"""No more are going to come."""

READY = b"r"
"""A worker's first word: it takes connections."""

CLOSED = b"n"
"""A worker's word of how many of its connections have ended: this byte and eight more."""

TELL_SECONDS = 0.02
"""How often a worker tells that, at most."""


class Outlet:
    """The supervisor's end of one worker's socket."""

    def __init__(self, sock: socket.socket, on_ready: Callable[[], None]) -> None:
        self._sock = sock
        self._on_ready = on_ready
        self._handed_over = 0
        self._closed = 0  # of those, by its last word
        self.is_ready = False
        sock.setblocking(False)
        asyncio.get_running_loop().add_reader(sock, self._on_readable)

    @property
    def connections(self) -> int:
        """How many connections it has, as far as it told."""
        return self._handed_over - self._closed

    def hand_over(self, connection: socket.socket, port: bytes) -> bool:
        """Give the worker a connection. Returns whether it could be."""
        try:
            socket.send_fds(self._sock, [port], [connection.fileno()])
        except OSError:  # it is stuck, or has just died
            return False
        self._handed_over += 1
        return True

    def finish(self) -> None:
        """Tell the worker that no more will come."""
        with contextlib.suppress(OSError):
            self._sock.send(END)

    def close(self) -> None:
        """Let the socket go."""
        self.is_ready = False
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()

    def _on_readable(self) -> None:
        try:
            message = self._sock.recv(64)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self.close()
        elif message == READY:
            self.is_ready = True
            self._on_ready()
        elif message[:1] == CLOSED:
            self._closed = int.from_bytes(message[1:9], "big")


class Dispatcher:
    """A ``listener.Greeter`` of the supervisor: gives each connection to the worker that has the fewest."""

    def __init__(self, outlets: Callable[[], Sequence[Outlet]], port: bytes) -> None:
        self._outlets = outlets
        self._port = port

    def greet(self, sock: socket.socket) -> None:
        """Hand a connection over; the client of one that nobody takes sees it closed."""
        with sock:
            for outlet in sorted((one for one in self._outlets() if one.is_ready), key=lambda one: one.connections):
                if outlet.hand_over(sock, self._port):
                    return


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
        while True:
            try:
                message, descriptors, _, _ = socket.recv_fds(self._sock, 1, 1)
            except BlockingIOError:
                return
            except OSError:
                message, descriptors = b"", []
            if not message or message == END:
                was_over, self.is_over = self.is_over, True
                if not message:
                    self.close()
                    if not was_over:
                        self.on_lost()
                return
            for descriptor in descriptors:
                self._accept(message, descriptor)

    def _accept(self, port: bytes, descriptor: int) -> None:
        taker = self._takers.get(port)
        if taker is None:
            os.close(descriptor)
            return
        self._taken += 1
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
