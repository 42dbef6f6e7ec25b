"""Moments: what comes again and again comes at moments that all of it shares, so that it wakes the process together.

Waking up costs a process that has nothing else to do more than most of what it wakes up for.
"""

from __future__ import annotations

from math import floor
from typing import Final

ALMOST: Final = 0.02
"""This part of the time between two moments before one it counts as over: fractions of seconds aren't exact."""


def until_next(seconds: float, now: float) -> float:
    """Return how long it is until the next of the moments that are ``seconds`` apart; about as long at most.

    Those of 0.1 s are among those of 0.05 s, and so on. ``now``: by the loop's clock.
    """
    return (floor(now / seconds + ALMOST) + 1) * seconds - now
