"""The probes under way: one for each instance, so many at once. What waits for its turn is no task.

Where a network fails, each probe of a large fleet takes until its time limit, and thousands wait: as tasks they took
memory, and the loop for most of a second where all were to end.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final, Generic, NamedTuple, TypeVar

from fd_router.http.pace import Pace
from fd_router.instances.registration import Registration

R = TypeVar("R")

ENDED_A_TURN: Final = 16
"""Tasks that are ended in one turn of the loop: each has a connection to close."""


class _Begun(NamedTuple, Generic[R]):
    task: asyncio.Task[R]
    found: asyncio.Future[R]


class ProbeQueue(Generic[R]):
    """Runs what is asked for in the order in which it was."""

    def __init__(
        self,
        probe: Callable[[Registration], Coroutine[Any, Any, R]],
        on_done: Callable[[str], None],
        *,
        most: int,
    ) -> None:
        """``on_done`` is called with the key of each that has ended, however it did. ``most``: at once."""
        self._probe = probe
        self._on_done = on_done
        self._most = most
        self._waiting: OrderedDict[str, tuple[Registration, asyncio.Future[R]]] = OrderedDict()
        self._begun: dict[str, _Begun[R]] = {}
        self._away = 0
        self._is_stopping = False

    def start(self, registration: Registration) -> asyncio.Future[R]:
        """Begin, as soon as it may be, or join what is under way; shield what is returned, for it is everybody's."""
        key = registration.key
        if (waiting := self._waiting.get(key)) is not None:
            return waiting[1]
        if (begun := self._begun.get(key)) is not None:
            if not begun.task.done():
                return begun.found
            self._end(key, begun)
        found: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting[key] = registration, found
        self._begin_next()
        return found

    def has_begun(self, key: str) -> bool:
        """Whether a probe of ``key`` is doing something, so that what it finds may be old."""
        begun = self._begun.get(key)
        return begun is not None and not begun.task.done()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Let another one begin while the probe that is in this does something else."""
        self._away += 1
        self._begin_next()
        try:
            yield
        finally:
            self._away -= 1

    async def stop(self) -> None:
        """End all that are under way, a few a turn of the loop."""
        self._is_stopping = True
        try:
            while len(self):  # somebody may ask for another one meanwhile
                await self._drop_waiting()
                await self._end_begun()
        finally:
            self._is_stopping = False

    async def _drop_waiting(self) -> None:
        pace = Pace()
        while self._waiting:
            key, (_, found) = self._waiting.popitem()
            found.cancel()
            self._on_done(key)
            await pace.breathe()

    async def _end_begun(self) -> None:
        tasks = [begun.task for begun in self._begun.values()]
        for number, task in enumerate(tasks, 1):
            task.cancel()
            if number % ENDED_A_TURN == 0:
                await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin_next(self) -> None:
        while self._waiting and not self._is_stopping and len(self._begun) - self._away < self._most:
            key, (registration, found) = self._waiting.popitem(last=False)
            self._begin(key, registration, found)

    def _begin(self, key: str, registration: Registration, found: asyncio.Future[R]) -> None:
        task = asyncio.get_running_loop().create_task(self._probe(registration), name=f"probe {key}")
        self._begun[key] = begun = _Begun(task, found)
        task.add_done_callback(lambda _: self._end(key, begun))

    def _end(self, key: str, begun: _Begun[R]) -> None:
        if self._begun.get(key) is not begun:
            return
        del self._begun[key]
        task, found = begun
        if task.cancelled():
            found.cancel()
        elif (error := task.exception()) is not None:
            found.set_exception(error)
        else:
            found.set_result(task.result())
        self._begin_next()
        self._on_done(key)

    def __contains__(self, key: str) -> bool:
        return key in self._begun or key in self._waiting

    def __iter__(self) -> Iterator[str]:
        return chain(self._begun, self._waiting)

    def __len__(self) -> int:
        return len(self._begun) + len(self._waiting)

    def __repr__(self) -> str:
        return f"<ProbeQueue: {len(self._begun)} begun, {len(self._waiting)} wait>"
