"""When each instance is probed: once an interval, each at a moment of its own. One timer of the loop for them all."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final, Protocol

TOGETHER_SECS: Final = 0.5
"""Those that are due again within so long come together.

What wakes a process that has nothing else to do finds the processor's caches full of others' data, which costs it more
than a probe does: a thousand instances woke it 200 times a second, and two or three probes at a time cost each half as
much again as ten.
"""

FIRST_TOGETHER_SECS: Final = 0.05
"""The same of those that are due for the first time: nobody can be sent there before."""

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


_Entry = tuple[str, float, float]
"""A key, when it is due, and how many seconds later it is due again. In force as long as it is the key's own."""


class ProbeSchedule:
    """Says of each key when it is due. Each keeps its phase: being late once makes it no later the next time."""

    def __init__(self, timers: Timers, on_due: Callable[[str], None], interval: float) -> None:
        """``interval``: in seconds, for what is put in from now on and for what comes again."""
        self.interval = interval
        self._timers = timers
        self._on_due = on_due
        self._entries: dict[str, _Entry] = {}
        self._at: dict[float, deque[_Entry]] = {}  # by when they are looked at; with some that aren't in force any more
        self._moments: list[float] = []  # of these, as a heap
        self._kept = 0  # entries there
        self._timer: Timer | None = None
        self._wakes_at = math.inf

    def put(self, key: str, first: float, second: float) -> None:
        """Let ``key`` be due in ``first`` seconds, ``second`` later, and then once an interval; forget what was."""
        now = self._timers.time()
        due = now + first
        look_at = now if first <= 0 else self._moment_of(due, FIRST_TOGETHER_SECS)
        self._keep((key, due, second), look_at)
        self._tidy()
        if look_at < self._wakes_at:
            self._wake()

    def drop(self, key: str) -> None:
        """Let ``key`` be due no more."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Let nothing be due any more."""
        self._entries, self._at, self._moments, self._kept = {}, {}, [], 0
        self._wake()

    def dues(self) -> dict[str, float]:
        """Return when each key is due next, by the loop's clock."""
        return {key: due for key, due, _ in self._entries.values()}

    def _moment_of(self, due: float, together: float) -> float:
        """Return when what is ``due`` is looked at: the next of the moments that are so far apart."""
        apart = min(together, self.interval / 10)
        return math.ceil(due / apart) * apart

    def _keep(self, entry: _Entry, look_at: float) -> None:
        self._entries[entry[0]] = entry
        self._kept += 1
        there = self._at.get(look_at)
        if there is None:
            self._at[look_at] = deque((entry,))
            heappush(self._moments, look_at)
        else:
            there.append(entry)

    def _tidy(self) -> None:
        """Forget what isn't in force, when it is most of what is kept."""
        if self._kept > 2 * len(self._entries) + _FEW:
            in_force = {at: deque(filter(self._is_in_force, there)) for at, there in self._at.items()}
            self._at = {at: there for at, there in in_force.items() if there}
            self._moments, self._kept = list(self._at), len(self._entries)
            heapify(self._moments)

    def _is_in_force(self, entry: _Entry) -> bool:
        return self._entries.get(entry[0]) is entry

    def _wake(self) -> None:
        """Have the one timer come when something is to be looked at."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._wakes_at = None, math.inf
        if self._moments:
            self._wakes_at = self._moments[0]
            self._timer = self._timers.call_at(self._wakes_at, self._look)

    def _look(self) -> None:
        now = max(self._timers.time(), self._wakes_at)  # a loop's timers may come a little early
        try:
            for _ in range(MOST_A_TURN):
                if not self._moments or self._moments[0] > now:
                    break
                self._take_next(now)
        finally:  # whatever one of them meets, the others have their turn
            self._wake()

    def _take_next(self, now: float) -> None:
        """Tell of one of those that are looked at first."""
        there = self._at[self._moments[0]]
        entry = key, due, following = there.popleft()
        self._kept -= 1
        if not there:
            del self._at[heappop(self._moments)]
        if self._entries.get(key) is not entry:
            return
        due += following
        if due <= now:  # what was missed isn't made up for
            due += (math.floor((now - due) / self.interval) + 1) * self.interval
        self._keep((key, due, self.interval), self._moment_of(due, TOGETHER_SECS))
        self._on_due(key)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<ProbeSchedule of {len(self._entries)}, every {self.interval:g} s>"
