"""A queue with priorities: first come, first served within one; each has its share of the turns of all that wait."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class _Lane(Generic[T]):
    """The items of one priority. ``passed`` is how far it has come: 1/weight further with each turn."""

    __slots__ = ("items", "passed", "stride")

    def __init__(self, weight: float) -> None:
        self.items: OrderedDict[T, None] = OrderedDict()
        self.passed = 0.0
        self.stride = 1.0 / weight


class FairQueue(Generic[T]):
    """Stride scheduling (Waldspurger and Weihl, 1995) over lanes that are queues.

    Whose lane has come least far is next, so that of the turns taken while several wait, each gets a share in
    proportion to its weight, and none starves. A lane that was empty begins where the others are: it has no claim to
    turns that it had no use for. All methods take constant time, for a handful of priorities.
    """

    __slots__ = ("_lanes", "_now")

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._lanes: dict[str, _Lane[T]] = {priority: _Lane(weight) for priority, weight in weights.items()}
        self._now = 0.0  # how far the lane had come that was served last

    def add(self, item: T, priority: str, *, first: bool = False) -> None:
        """Add ``item``, at the end of its lane or, one that waited before, as the ``first`` of it."""
        lane = self._lanes[priority]
        if not lane.items:
            lane.passed = max(lane.passed, self._now)
        lane.items[item] = None
        if first:
            lane.items.move_to_end(item, last=False)

    def remove(self, item: T, priority: str) -> None:
        """Remove ``item``, which needs no turn any more."""
        del self._lanes[priority].items[item]

    def first(self) -> T | None:
        """Return the item whose turn it is, or None when nothing waits. It stays where it is."""
        lane = self._next()
        return next(iter(lane.items)) if lane is not None else None

    def take(self, item: T, priority: str) -> None:
        """Remove ``item``, which has had its turn."""
        lane = self._lanes[priority]
        del lane.items[item]
        self._now = lane.passed
        lane.passed += lane.stride

    def length(self, priority: str) -> int:
        """Return how many items of ``priority`` wait."""
        return len(self._lanes[priority].items)

    def _next(self) -> _Lane[T] | None:
        waiting = [lane for lane in self._lanes.values() if lane.items]
        return min(waiting, key=lambda lane: lane.passed, default=None)

    def __len__(self) -> int:
        return sum(len(lane.items) for lane in self._lanes.values())

    def __repr__(self) -> str:
        return f"<FairQueue {' '.join(f'{name}={len(lane.items)}' for name, lane in self._lanes.items())}>"
