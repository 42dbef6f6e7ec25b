"""Slow start: an instance that has just come, or come back, gets its full share of requests only after a while."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from fd_router.capacity.limits import Limits
from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Instance, MemberGroup
from fd_router.instances.registry import Registry

TICK_SECONDS = 0.1
"""How often limits follow the time and the others' loads."""

WARMING = "slow start"

NOBODY = -1.0
"""The mean of a group whose instances are all warming up."""

_BEGINNINGS = (ChangeKind.FIRST_UP, ChangeKind.CIRCUIT_CLOSED)
_ENDS = (ChangeKind.DOWN, ChangeKind.REMOVED)


class SlowStart:
    """Limits the concurrent requests of instances that are warming up to a growing share of what the others have.

    A limit works with every policy alike: a newcomer, which is the idlest of all, would else be sent everything at
    once. The limit rises from one request to the mean of those that aren't warming up, in a straight line over
    ``seconds``. When all are warming up there is nobody to take what one doesn't, and no limit.
    """

    def __init__(self, registry: Registry, limits: Limits, seconds: float, *, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._seconds = seconds
        self._clock = clock
        self._warming: dict[str, tuple[Instance, float]] = {}  # key → since when
        self._down: set[str] = set()  # a suspect that its probe clears has not been away
        registry.on_change(self._on_change)

    async def run(self) -> None:
        """Let the limits rise until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.tick()

    def tick(self) -> None:
        """Set the limits that are right now."""
        now = self._clock()
        groups = {group.key: group for instance, _ in self._warming.values() for group in instance.groups}
        means = {key: self._mean(group) for key, group in groups.items()}
        for instance, since in tuple(self._warming.values()):
            mean = max((means[group.key] for group in instance.groups), default=NOBODY)
            self._set(instance, (now - since) / self._seconds, mean)

    def _mean(self, group: MemberGroup) -> float:
        """Return how many requests those of the group have that aren't warming up, on average."""
        others = [x.running for x in group.available if x.key not in self._warming]
        return sum(others) / len(others) if others else NOBODY

    def _set(self, instance: Instance, share: float, mean: float) -> None:
        if share >= 1.0:
            del self._warming[instance.key]
        is_over = share >= 1.0 or mean == NOBODY
        self._limits.cap(instance, WARMING, 0 if is_over else max(1, math.ceil(share * mean)))

    def _on_change(self, change: Change) -> None:
        instance, kind = change.instance, change.kind
        if kind in _ENDS:
            self._down.add(instance.key)
            if self._warming.pop(instance.key, None) is not None and kind is not ChangeKind.REMOVED:
                self._limits.cap(instance, WARMING, 0)
        elif kind in _BEGINNINGS or (kind is ChangeKind.UP and instance.key in self._down):
            self._warming[instance.key] = (instance, self._clock())
        if kind in (ChangeKind.UP, ChangeKind.FIRST_UP, ChangeKind.REMOVED):
            self._down.discard(instance.key)
        if self._warming:
            self.tick()

    def __repr__(self) -> str:
        return f"<SlowStart {self._seconds:g} s, {len(self._warming)} warming up>"
