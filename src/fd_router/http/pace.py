"""Long work on the event loop, in slices: between two of them everybody else has a turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator
from functools import partial
from typing import TypeVar, cast

T = TypeVar("T")
R = TypeVar("R")

SLICE_SECS = 0.005
"""How long work may hold the loop at a time: less than the network needs."""


class Pace:
    """Of one handler's work: ``await pace.breathe()`` where a slice may end."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def breathe(self) -> None:
        """Let others have a turn, if this slice has been long enough."""
        if time.perf_counter() - self._since > SLICE_SECS:
            await asyncio.sleep(0)
            self._since = time.perf_counter()


async def paced(work: Generator[None, None, R]) -> R:
    """Do ``work``, which yields where a slice may end, and return what it returns."""
    pace = Pace()
    while True:
        try:
            next(work)
        except StopIteration as end:
            return cast("R", end.value)
        await pace.breathe()


def in_slices(work: Iterator[None], later: Callable[[float, Callable[[], None]], object]) -> None:
    """Do ``work``, which yields where a slice may end: the first slice now, each other one when ``later`` calls."""
    until = time.perf_counter() + SLICE_SECS
    for _ in work:
        if time.perf_counter() > until:
            later(0.0, partial(in_slices, work, later))
            return


async def gather_few(ask: Callable[[T], Awaitable[R]], whom: Iterable[T], at_once: int) -> list[R]:
    """Await ``ask(x)`` for each ``x`` of ``whom``, so many at a time. Returns what they gave, in their order.

    ``asyncio.gather`` would begin with all of them in one go: 10,000 hold the loop for a tenth of a second.
    """
    given: dict[int, R] = {}
    rest, pace, breath = iter(enumerate(whom)), Pace(), asyncio.Lock()

    async def ask_on() -> None:
        for number, each in rest:
            given[number] = await ask(each)
            async with breath:  # some give something at once: one of those at a time, not each for a slice of its own
                await pace.breathe()

    await asyncio.gather(*(ask_on() for _ in range(at_once)))
    return [given[number] for number in range(len(given))]
