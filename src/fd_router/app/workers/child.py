"""A child of the supervisor: one worker's process, and the two sockets to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable

from fd_router.app.workers.seat import VARIABLE, written
from fd_router.http.dispatch import Outlet
from fd_router.state.local.hub import Hub


class Child:
    """Worker number ``index``: one process after the other."""

    def __init__(self, index: int, count: int, group: str, hub: Hub, on_ready: Callable[[], None]) -> None:
        self.index = index
        self.outlet: Outlet | None = None  # while it runs
        self._count = count
        self._group = group
        self._hub = hub
        self._on_ready = on_ready
        self._process: asyncio.subprocess.Process | None = None
        self._generation = 0
        self._last_word = 0  # the signal by which it is to end, whether there is a process yet or not

    async def run(self) -> int:
        """Start it, and wait until it has ended. Returns its status, below 0 for a signal."""
        self._generation += 1
        name = f"{self._group}.{self._generation}"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        hub, way = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        hub.setblocking(False)
        self.outlet = outlet = Outlet(ours, self._on_ready)
        try:
            with theirs, way:
                environ = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
                environ[VARIABLE] = written(name, self.index, self._count, theirs.fileno(), way.fileno())
                await self._hub.join(f"{name}/{self.index}", hub)
                self._process = process = await asyncio.create_subprocess_exec(
                    *command_line(), env=environ, pass_fds=(theirs.fileno(), way.fileno()), start_new_session=True
                )
            if self._last_word:  # which came meanwhile
                self.signal(self._last_word)
            return await process.wait()
        finally:
            outlet.close()
            self.outlet = self._process = None

    def finish(self) -> None:
        """Tell it that no more connections will come."""
        if self.outlet is not None:
            self.outlet.finish()

    def signal(self, number: int) -> None:
        """Send it a signal, if it runs; if it is being made, one by which it is to end as soon as it is there."""
        if number != signal.SIGHUP:
            self._last_word = number
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)

    def __repr__(self) -> str:
        return f"<Child {self.index} {'running' if self._process is not None else 'not running'}>"


def command_line() -> list[str]:
    """Return the command that starts this program once more."""
    if getattr(sys, "frozen", False):
        return [sys.executable, *sys.argv[1:]]
    return [sys.executable, *sys.orig_argv[1:]]
