"""The drain rate: how fast a queue is served, and so when it is worth coming again."""

from __future__ import annotations

import math

MEMORY = 10.0
"""Seconds after which what was measured counts a third (1/e) of what is new."""

LEAST, MOST = 1, 60
"""Seconds that are told at least and at most: in a minute everything may be different."""

ENOUGH = 0.1
"""Seconds that must have been measured before they mean anything."""


class DrainRate:
    """Turns a second while something waited, lately: a weighted count of turns over the equally weighted time.

    Times are monotonic seconds.
    """

    __slots__ = ("_at", "_time", "_turns")

    def __init__(self) -> None:
        self._at = 0.0
        self._time = 0.0
        self._turns = 0.0

    def begin(self, now: float) -> None:
        """Something begins to wait: time counts from here on."""
        self._at = now

    def count(self, now: float) -> None:
        """Something that waited has its turn."""
        self._advance(now)
        self._turns += 1.0

    def pause(self, now: float) -> None:
        """Nothing waits any more: time doesn't count until ``begin``."""
        self._advance(now)

    def seconds_for(self, turns: int) -> int:
        """Return in how many whole seconds so many turns will have come, from ``LEAST`` to ``MOST``."""
        if self._time < ENOUGH:
            return LEAST
        if self._turns * MOST <= turns * self._time:
            return MOST
        return max(LEAST, math.ceil(turns * self._time / self._turns))

    def _advance(self, now: float) -> None:
        passed, self._at = max(0.0, now - self._at), now
        kept = math.exp(-passed / MEMORY)
        self._turns *= kept
        self._time = self._time * kept + MEMORY * (1.0 - kept)

    def __repr__(self) -> str:
        return f"<DrainRate {self._turns:.1f} turns in {self._time:.1f} s>"
