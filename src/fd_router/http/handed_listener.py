"""The listener of a worker: connections that its supervisor accepted come in through an inlet."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Any

from fd_router.http.dispatch import Inlet
from fd_router.http.listener import Accept, Greeter


class HandedListener:
    """Does what ``listener.Listener`` does, without a socket of its own. ``hosts``: what the supervisor listens on."""

    takes_over = False

    def __init__(
        self, inlet: Inlet, port: bytes, accept: Accept, *, greeter: Greeter | None, hosts: Sequence[str] = ()
    ) -> None:
        self.hosts = tuple(hosts)
        self._inlet = inlet
        self._port = port
        self._accept = accept
        self._greeter = greeter
        self._begun: set[asyncio.Task[Any]] = set()  # connections that aren't served yet
        self.count: Callable[[], int] | None = None  # set where this one has the inlet begin

    def hold(self) -> None:
        """Clients wait at the supervisor's socket."""

    async def start(self) -> None:
        """Begin to take connections."""
        self._inlet.take(self._port, self._greet if self._greeter is None else self._greeter.greet)
        if self.count is not None:
            self._inlet.start(self.count)

    def stop(self) -> None:
        """The supervisor says when no more will come; until then they are taken, and told to go elsewhere."""

    @property
    def is_greeting(self) -> bool:
        """Whether more may come, or some aren't served yet."""
        return bool(self._begun) or not self._inlet.is_over

    def close(self) -> None:
        """Take no more."""
        self._inlet.close()
        for task in self._begun:
            task.cancel()

    def _greet(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._serve(loop, sock))
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)

    async def _serve(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client may have left meanwhile
            await loop.connect_accepted_socket(self._accept, sock)
