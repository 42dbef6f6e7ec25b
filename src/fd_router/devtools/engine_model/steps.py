"""Decode steps that are worked out at once, and end early when the batch changes."""

from __future__ import annotations

import math


def steps_under_way(steps: int, began_at: float, step_secs: float, now: float) -> int:
    """Return how many of ``steps`` are made if the present one, at ``now``, is the last: at least one.

    The hair's breadth: what falls on the end of a step isn't behind it because of a rounded sum.
    """
    begun = math.ceil((now - began_at) / step_secs - 1e-9) if step_secs else 1
    return min(steps, max(1, begun))
