"""Slow start: an instance that has just come, or come back, gets its full share of requests only after a while."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

from fd_router.capacity.limits import Limits
from fd_router.capacity.ticking import Ticking
from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Instance, MemberGroup
from fd_router.instances.registry import Registry

WARMING = "slow start"

SAME_AGE_SECS = 1.0
"""Instances whose ages differ by no more are alike: those that a router finds when it starts, for one."""

_BEGINNINGS = (ChangeKind.FIRST_UP, ChangeKind.CIRCUIT_CLOSED)
_ENDS = (ChangeKind.DOWN, ChangeKind.REMOVED)
_HARMLESS = (ChangeKind.ADDED, ChangeKind.UP, *_BEGINNINGS)
"""What leaves no instance without its elders: the limits of the others can wait for the next tick."""


class _Elders:
    """How many requests those of a group have that are older than a given one, in relation to their own shares."""

    def __init__(
        self, group: MemberGroup, warming: Mapping[str, tuple[Instance, float]], now: float, secs: float
    ) -> None:
        born = sorted((warming[x.key][1] if x.key in warming else float("-inf"), x.running) for x in group.available)
        self._births = [since for since, _ in born]
        self._running = list(accumulate((running for _, running in born), initial=0))
        shares = (min(1.0, (now - since) / secs) for since in self._births)
        self._shares = list(accumulate(shares, initial=0.0))

    def full_share(self, since: float) -> float | None:
        """Return how many requests one has that is warm, going by those older than ``since``; None: there is none."""
        older = bisect_left(self._births, since - SAME_AGE_SECS)
        return self._running[older] / self._shares[older] if older else None


class SlowStart(Ticking):
    """Limits the concurrent requests of instances that are warming up to a growing share of what the others have.

    A limit works with every policy alike: a newcomer, which is the idlest of all, would else be sent everything at
    once. The limit rises from one request to what a warm one has, in a straight line over ``seconds``. Where none is
    warm, those that are older stand for them, each by its own share. The oldest have no limit.
    """

    def __init__(self, registry: Registry, limits: Limits, seconds: float, *, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._seconds = seconds
        self._clock = clock
        self._warming: dict[str, tuple[Instance, float]] = {}  # key → since when
        self._down: set[str] = set()  # a suspect that its probe clears has not been away
        registry.on_change(self._on_change)

    def tick(self) -> None:
        """Set the limits that are right now."""
        self._set([*self._warming.values()])

    def _set(self, warming: Sequence[tuple[Instance, float]]) -> None:
        now = self._clock()
        groups = {group.key: group for instance, _ in warming for group in instance.groups}
        elders = {key: _Elders(group, self._warming, now, self._seconds) for key, group in groups.items()}
        for instance, since in warming:
            share = (now - since) / self._seconds
            if share >= 1.0:
                del self._warming[instance.key]
            found = (elders[group.key].full_share(since) for group in instance.groups)
            full = max((each for each in found if each is not None), default=None)
            is_over = share >= 1.0 or full is None
            self._limits.cap(instance, WARMING, 0 if is_over else max(1, math.ceil(share * (full or 0.0))))

    def _on_change(self, change: Change) -> None:
        instance, kind = change.instance, change.kind
        if kind in _ENDS:
            self._down.add(instance.key)
            if self._warming.pop(instance.key, None) is not None and kind is not ChangeKind.REMOVED:
                self._limits.cap(instance, WARMING, 0)
        elif kind in _BEGINNINGS or (kind is ChangeKind.UP and instance.key in self._down):
            self._warming[instance.key] = begun = (instance, self._clock())
            self._set([begun])
        if kind in (ChangeKind.UP, ChangeKind.FIRST_UP, ChangeKind.REMOVED):
            self._down.discard(instance.key)
        if self._warming and kind not in _HARMLESS:
            self.tick()

    def __repr__(self) -> str:
        return f"<SlowStart {self._seconds:g} s, {len(self._warming)} warming up>"
