"""When each instance is probed: once an interval, each at a moment of its own. One timer of the loop for them all."""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final, Protocol

TOGETHER_SECS: Final = 0.05
"""Those that are due within so long come together: a thousand instances would wake the process 200 times a second."""

MOST_A_TURN: Final = 128
"""More of them, as there are where the process stood still, wait for the next turn: others come between."""

_FEW: Final = 64  # entries that aren't in force any more, and are no reason to sort anew


class Timer(Protocol):
    """One call that is to come."""

    def cancel(self) -> None:
        """Let it not come."""


class Timers(Protocol):
    """What an event loop has for this."""

    def time(self) -> float:
        """Return the seconds by its clock."""

    def call_at(self, when: float, callback: Callable[[], None], /) -> Timer:
        """Call once at that time."""


_Entry = tuple[float, str, float]
"""When a key is due, the key, and how many seconds later it is due again. In force as long as it is the key's own."""


class ProbeSchedule:
    """Says of each key when it is due. Each keeps its phase: being late once makes it no later the next time."""

    def __init__(self, timers: Timers, on_due: Callable[[str], None], interval: float) -> None:
        """``interval``: in seconds, for what is put in from now on and for what comes again."""
        self.interval = interval
        self._timers = timers
        self._on_due = on_due
        self._entries: dict[str, _Entry] = {}
        self._heap: list[_Entry] = []  # with some that aren't in force any more
        self._timer: Timer | None = None
        self._wakes_at = math.inf

    def put(self, key: str, first: float, second: float) -> None:
        """Let ``key`` be due in ``first`` seconds, ``second`` later, and then once an interval; forget what was."""
        due = self._timers.time() + first
        self._entries[key] = entry = (due, key, second)
        heappush(self._heap, entry)
        self._tidy()
        if due < self._wakes_at:
            self._wake()

    def drop(self, key: str) -> None:
        """Let ``key`` be due no more."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Let nothing be due any more."""
        self._entries, self._heap = {}, []
        self._wake()

    def dues(self) -> dict[str, float]:
        """Return when each key is due next, by the loop's clock."""
        return {key: due for due, key, _ in self._entries.values()}

    def _tidy(self) -> None:
        """Forget what isn't in force, when it is most of the heap."""
        if len(self._heap) > 2 * len(self._entries) + _FEW:
            self._heap = list(self._entries.values())
            heapify(self._heap)

    def _wake(self) -> None:
        """Have the one timer come when something is due: now, or at the next of the moments that are looked at."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._wakes_at = None, math.inf
        if self._heap:
            due, now = self._heap[0][0], self._timers.time()
            together = min(TOGETHER_SECS, self.interval / 10)
            self._wakes_at = now if due <= now else math.ceil(due / together) * together
            self._timer = self._timers.call_at(self._wakes_at, self._look)

    def _look(self) -> None:
        now = self._timers.time()
        try:
            for _ in range(MOST_A_TURN):
                if not self._heap or self._heap[0][0] > now:
                    break
                self._take_first(now)
        finally:  # whatever one of them meets, the others have their turn
            self._wake()

    def _take_first(self, now: float) -> None:
        entry = due, key, following = self._heap[0]
        if self._entries.get(key) is not entry:
            heappop(self._heap)
            return
        due += following
        if due <= now:  # what was missed isn't made up for
            due += (math.floor((now - due) / self.interval) + 1) * self.interval
        self._entries[key] = entry = (due, key, self.interval)
        heapreplace(self._heap, entry)
        self._on_due(key)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<ProbeSchedule of {len(self._entries)}, every {self.interval:g} s>"
