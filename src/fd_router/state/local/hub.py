"""The hub: the bus of the workers of one host, in their supervisor. It keeps no state but leases and common limits."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol, cast

import msgspec

from fd_router.bus import Ask, Grant
from fd_router.state.local.wire import Order, Reply, Splitter, read_order, written

ECHO_SECONDS = 0.5
"""A worker hears one of its own messages again that is so long behind the last one it heard, and needs no more."""

MAX_UNREAD = 64 << 20
"""Bytes that may wait for a worker which doesn't read: then it is stuck, and its connection is ended."""


class Limiter(Protocol):
    """Who keeps the limits of keys; see ``admission.common_limits``."""

    def reserve(self, ask: Ask) -> Grant:
        """Let requests in."""

    def settle(self, ask: Ask, requests: int) -> None:
        """Take what was let in without asking."""


class Hub:
    """Carries messages among the workers that ``join``, and answers their orders."""

    def __init__(self, limiter: Limiter, clock: Callable[[], float]) -> None:
        self._limiter = limiter
        self._clock = clock
        self._workers: dict[str, _Worker] = {}
        self._leases: dict[str, tuple[str, float]] = {}  # name → (process, until when)

    async def join(self, process: str, sock: socket.socket) -> None:
        """Serve the worker that calls itself ``process`` over ``sock``, until it closes that."""
        worker = _Worker(self, process)
        await asyncio.get_running_loop().create_connection(lambda: worker, sock=sock)

    def close(self) -> None:
        """Let all workers go."""
        for worker in tuple(self._workers.values()):
            worker.transport.abort()

    # what connections call

    def joined(self, worker: _Worker) -> None:
        """A worker is there."""
        self._workers[worker.process] = worker

    def left(self, worker: _Worker) -> None:
        """A worker is gone."""
        if self._workers.get(worker.process) is worker:
            del self._workers[worker.process]

    def obey(self, worker: _Worker, order: Order) -> None:
        """Do what a worker wants."""
        if order.kind == "send":
            message = written(Reply(0, order.data))
            targets = [self._workers.get(order.to)] if order.to else self._hearers(worker)
            for target in targets:
                if target is not None:
                    target.write(message)
        elif order.kind == "lease":
            is_taken = self._lease(worker.process, order.name, order.secs)
            worker.write(written(Reply(order.number, is_taken=is_taken)))
        elif order.kind == "reserve":
            worker.write(written(Reply(order.number, grants=[self._limiter.reserve(ask) for ask in order.asks])))
        elif order.kind == "settle":
            for ask in order.asks:
                self._limiter.settle(ask, order.count)

    def _hearers(self, worker: _Worker) -> list[_Worker]:
        """Return who gets a message of ``worker`` to all."""
        now = self._clock()
        if now - worker.echoed_at < ECHO_SECONDS:
            return [one for one in self._workers.values() if one is not worker]
        worker.echoed_at = now
        return list(self._workers.values())

    def _lease(self, process: str, name: str, secs: float) -> bool:
        now = self._clock()
        holder, until = self._leases.get(name, ("", 0.0))
        if holder != process and until > now:
            return False
        self._leases = {known: lease for known, lease in self._leases.items() if lease[1] > now}
        self._leases[name] = process, now + secs
        return True

    def __repr__(self) -> str:
        return f"<Hub of {len(self._workers)} workers>"


class _Worker(asyncio.Protocol):
    """A worker's connection."""

    def __init__(self, hub: Hub, process: str) -> None:
        self._hub = hub
        self._splitter = Splitter()
        self.process = process
        self.echoed_at = float("-inf")
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        self.transport = cast("asyncio.Transport", transport)
        self._hub.joined(self)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        try:
            for body in self._splitter.feed(data):
                self._hub.obey(self, read_order(body))
        except (ValueError, msgspec.MsgspecError):  # a bug; the worker notices the end
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """See ``asyncio.Protocol``."""
        self._hub.left(self)

    def write(self, message: bytes) -> None:
        """Send, unless it has long not read."""
        if self.transport.get_write_buffer_size() > MAX_UNREAD:
            self.transport.abort()
        else:
            self.transport.write(message)
