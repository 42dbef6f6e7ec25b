"""The resumption of many streams, or of long ones: in slices, one after the other, before another instance is chosen.

An instance that dies breaks hundreds of streams off in one turn of the loop, each of which has to be read.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from fd_router.http.pace import SLICE_SECS, in_slices
from fd_router.instances.instance import Instance
from fd_router.routing.continuation.contracts import Move
from fd_router.routing.continuation.stream_reading import StreamReading


class ResumptionTurns:
    """The turns of those that are resumed: one slice at a time, whoever's."""

    __slots__ = ("_is_at_work", "_since", "_waiting")

    def __init__(self) -> None:
        self._is_at_work = False  # a next slice is due, also where there is nothing left for it
        self._since = 0.0  # when one was resumed first in this turn of the loop; 0.0: none was
        self._waiting: deque[Iterator[None]] = deque()

    def has_time(self) -> bool:
        """Whether one may be resumed at once: none waits, and the slice of this turn isn't over."""
        now = time.perf_counter()
        if not self._since:
            self._since = now
            asyncio.get_running_loop().call_soon(self._rest)
        return self.are_over and now - self._since < SLICE_SECS

    @property
    def are_over(self) -> bool:
        """Whether none waits."""
        return not self._waiting

    def add(self, work: Iterator[None]) -> None:
        """Do ``work``, which never raises, when its turn comes."""
        self._waiting.append(work)
        if not self._is_at_work:
            self._is_at_work = True
            self._later(0.0, partial(in_slices, self._all(), self._later))

    @staticmethod
    def _later(_: float, work: Callable[[], object]) -> None:
        asyncio.get_running_loop().call_soon(work)

    def _rest(self) -> None:
        self._since = 0.0

    def _all(self) -> Iterator[None]:
        while self._waiting:
            yield from self._waiting[0]
            self._waiting.popleft()
            yield
        self._is_at_work = False

    def __repr__(self) -> str:
        return f"<ResumptionTurns, {len(self._waiting)} wait>"


class Resumption:
    """One stream, until it is read; then ``go_on`` is called. In the place of its ``StreamContinuation``."""

    __slots__ = ("_go_on", "_is_over", "_on_bug", "_reading", "is_aborted")

    engine_id = ""
    delivered_at = waits_until = 0.0

    def __init__(self, reading: StreamReading, go_on: Callable[[], None], on_bug: Callable[[Exception], None]) -> None:
        self._reading = reading
        self._go_on = go_on
        self._on_bug = on_bug
        self._is_over = False
        self.is_aborted = False

    def slices(self) -> Iterator[None]:
        """Read, and go on; yields where a slice may end."""
        try:
            for _ in () if self._is_over else self._reading.read():
                yield
                if self._is_over:
                    return
            if not self._is_over:
                self._go_on()
        except Exception as error:  # noqa: BLE001  a bug with one must not keep the others waiting
            self._on_bug(error)

    def instances(self) -> tuple[Instance, ...]:
        """It goes on nowhere yet."""
        return ()

    def move(self, why: str, instance: Instance) -> Move:  # noqa: ARG002
        """It is at none that it could leave."""
        return Move.ENDS

    def on_instance_dead(self, key: str) -> bool:  # noqa: ARG002
        """It is at none that could die."""
        return False

    def pause(self) -> None:
        """Nothing is read."""

    def resume(self) -> None:
        """Nothing is read yet."""

    def cancel(self) -> None:
        """It is over."""
        self._is_over = True
        self._reading.close()
        self._go_on = self._on_bug = _nothing  # no cycles: what is over is freed at once

    def __repr__(self) -> str:
        return f"<Resumption {self._reading!r}>"


def _nothing(*_: object) -> None:
    """Nobody is told."""
