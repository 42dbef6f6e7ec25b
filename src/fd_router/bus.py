"""The bus: how processes reach each other. What carries frames, leases and common limits implements it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class BusError(Exception):
    """The bus can't be had at the moment: the message says why, without secrets."""


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """Requests that want to be let in by one key: how many tokens each is thought to have.

    ``requests_per_minute``, ``tokens_per_minute``: the key's limits, 0 where there is none.
    """

    key: str
    requests_per_minute: int
    tokens_per_minute: int
    tokens: tuple[int, ...]


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """The answer: how many of the requests, the first ones, are let in, and what is left for the key then."""

    granted: int
    requests_left: float
    tokens_left: float


class Bus(Protocol):
    """Carries messages among the processes of a set. Every method may raise BusError, and may be called again after.

    A process hears its own messages to all too, which shows it how long they take: all, or some, two a second if there
    are so many.
    """

    @property
    def place(self) -> str:
        """Where it is, for the log: without a password."""

    async def open(self) -> None:
        """Begin to listen: what is sent from now on is received."""

    async def send(self, data: bytes, to: str = "") -> None:
        """Send a message to all, or to one process."""

    async def receive(self) -> Sequence[bytes]:
        """Wait for messages, some time at most; return those that came."""

    async def lease(self, name: str, secs: float) -> bool:
        """Take what only one process may have at a time, or keep it for longer. Returns whether it is this one's."""

    async def reserve(self, asks: Sequence[Ask]) -> Sequence[Grant]:
        """Let requests in by keys whose limits all processes share; an answer for each ask, in their order."""

    async def settle(self, ask: Ask, requests: int) -> None:
        """Take ``requests``, and the ask's tokens, from what is left for its key: they were let in without asking."""

    async def close(self) -> None:
        """Let it go. Never raises."""


class BusHealth:
    """Whether the bus works, as far as is known; ``why`` it doesn't."""

    __slots__ = ("why",)

    def __init__(self) -> None:
        self.why = "it wasn't reached yet"

    @property
    def is_up(self) -> bool:
        """Whether it works."""
        return not self.why
