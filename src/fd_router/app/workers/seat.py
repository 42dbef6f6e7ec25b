"""A worker's seat: what its supervisor gave it: a number, an inlet of connections, and a way to the hub."""

from __future__ import annotations

import socket
from collections.abc import Callable, MutableMapping

from fd_router.http.dispatch import Inlet
from fd_router.state.local.bus import LocalBus

VARIABLE = "_FD_ROUTER_WORKER"
"""The environment variable by which a supervisor tells a process that it is a worker. It is no option."""


class Seat:
    """Made in the worker's process, on its loop."""

    def __init__(self, group: str, index: int, count: int, inlet: int, hub: int) -> None:
        """``inlet``, ``hub``: descriptors."""
        self.group = group
        self.index = index
        self.count = count
        self.inlet = Inlet(inlet)
        sock = socket.socket(fileno=hub)
        sock.setblocking(False)
        sock.set_inheritable(False)
        self.bus = LocalBus(sock, self._on_lost)
        self.inlet.on_lost = self._on_lost
        self.on_orphaned: Callable[[], None] = _nothing

    @property
    def process(self) -> str:
        """What it is called among all processes of a set."""
        return f"{self.group}/{self.index}"

    def _on_lost(self) -> None:
        """Tell it once: both sockets end with the supervisor, and a second signal means to hurry."""
        orphaned, self.on_orphaned = self.on_orphaned, _nothing
        orphaned()

    def __repr__(self) -> str:
        return f"<Seat {self.index} of {self.count}>"


def take_seat(environ: MutableMapping[str, str]) -> Seat | None:
    """Return this process' seat, None if it isn't a worker. The variable is removed: it means nothing to a child."""
    text = environ.pop(VARIABLE, "")
    if not text:
        return None
    group, *numbers = text.split(",")
    index, count, inlet, hub = map(int, numbers)
    return Seat(group, index, count, inlet, hub)


def is_worker(environ: MutableMapping[str, str]) -> bool:
    """Whether this process is a worker."""
    return VARIABLE in environ


def written(group: str, index: int, count: int, inlet: int, hub: int) -> str:
    """Write a seat for the environment."""
    return f"{group},{index},{count},{inlet},{hub}"


def _nothing() -> None:
    """Nobody is told."""
