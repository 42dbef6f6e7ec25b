"""Work on instances, such as probes: one at a time for each, so many at once. What waits for its turn is no task.

Thousands wait when a large fleet comes up, or where a network fails and each probe takes until its time limit: as tasks
they took memory, made each run of the garbage collector longer, and held the loop where all were to end.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, Final, Generic, TypeVar

from fd_router.http.pace import Pace

T = TypeVar("T")
R = TypeVar("R")

ENDED_A_TURN: Final = 16
"""Tasks that are ended in one turn of the loop: each has a connection to close."""


class WorkQueue(Generic[T, R]):
    """Does what is asked for in the order in which it was."""

    def __init__(
        self,
        work: Callable[[T], Coroutine[Any, Any, R]],
        *,
        most: int,
        on_done: Callable[[str], None] = lambda key: None,  # noqa: ARG005
    ) -> None:
        """``most``: at once. ``on_done`` is called with the key of each that has ended, however it did."""
        self._work = work
        self._on_done = on_done
        self._most = most
        self._waiting: OrderedDict[str, T] = OrderedDict()
        self._begun: dict[str, asyncio.Task[R]] = {}
        self._wanted: dict[str, asyncio.Future[R]] = {}  # what somebody waits for
        self._away = 0
        self._is_stopping = False

    def start(self, key: str, about: T) -> None:
        """Work on ``about`` when its turn comes, unless ``key`` is worked on; of what waits, the last word counts."""
        task = self._begun.get(key)
        if task is not None and task.done():
            self._end(key, task)
        if key not in self._begun:
            self._waiting[key] = about
            self._begin_next()

    def join(self, key: str, about: T) -> asyncio.Future[R]:
        """Do the same, and return what will be found. Shield that: it is everybody's."""
        self.start(key, about)
        found = self._wanted.get(key)
        if found is None:
            found = self._wanted[key] = asyncio.get_running_loop().create_future()
        return found

    def has_begun(self, key: str) -> bool:
        """Whether what will be found of ``key`` may be old: it isn't waiting any more."""
        task = self._begun.get(key)
        return task is not None and not task.done()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Let another one begin while the work that is in this waits, or does something else."""
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
            key, _ = self._waiting.popitem()
            if (found := self._wanted.pop(key, None)) is not None:
                found.cancel()
            self._on_done(key)
            await pace.breathe()

    async def _end_begun(self) -> None:
        tasks = tuple(self._begun.values())
        for number, task in enumerate(tasks, 1):
            task.cancel()
            if number % ENDED_A_TURN == 0:
                await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin_next(self) -> None:
        while self._waiting and not self._is_stopping and len(self._begun) - self._away < self._most:
            key, about = self._waiting.popitem(last=False)
            task = asyncio.get_running_loop().create_task(self._work(about), name=f"work on {key}")
            self._begun[key] = task
            task.add_done_callback(partial(self._end, key))

    def _end(self, key: str, task: asyncio.Task[R]) -> None:
        if self._begun.get(key) is not task:
            return
        del self._begun[key]
        if (found := self._wanted.pop(key, None)) is not None:
            _tell(found, task)
        self._begin_next()
        self._on_done(key)

    def __contains__(self, key: str) -> bool:
        return key in self._begun or key in self._waiting

    def __iter__(self) -> Iterator[str]:
        return chain(self._begun, self._waiting)

    def __len__(self) -> int:
        return len(self._begun) + len(self._waiting)

    def __repr__(self) -> str:
        return f"<WorkQueue: {len(self._begun)} begun, {len(self._waiting)} wait>"


def _tell(found: asyncio.Future[R], task: asyncio.Task[R]) -> None:
    if task.cancelled():
        found.cancel()
    elif (error := task.exception()) is not None:
        found.set_exception(error)
    else:
        found.set_result(task.result())
