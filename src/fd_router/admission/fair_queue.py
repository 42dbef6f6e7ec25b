"""A queue with priorities, each with its share of the turns; within one, parties take turns, each first come, first
served."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class _Lane(Generic[T]):
    """The items of one priority. ``passed`` is how far it has come: 1/weight further with each turn.

    ``parties`` stand in the order of their turns, each with its items, the next one first. None is empty.
    """

    __slots__ = ("parties", "passed", "size", "stride")

    def __init__(self, weight: float) -> None:
        self.parties: OrderedDict[str, OrderedDict[T, None]] = OrderedDict()
        self.size = 0
        self.passed = 0.0
        self.stride = 1.0 / weight

    def add(self, item: T, party: str, *, first: bool) -> None:
        items = self.parties.get(party)
        if items is None:
            items = self.parties[party] = OrderedDict()
        items[item] = None
        if first:
            items.move_to_end(item, last=False)
            self.parties.move_to_end(party, last=False)
        self.size += 1

    def remove(self, item: T, party: str) -> None:
        items = self.parties[party]
        del items[item]
        if not items:
            del self.parties[party]
        self.size -= 1

    def take(self, item: T, party: str) -> None:
        """Remove ``item``; then it is the others' turn."""
        self.remove(item, party)
        if party in self.parties:
            self.parties.move_to_end(party)

    def first(self) -> T:
        return next(iter(next(iter(self.parties.values()))))


class FairQueue(Generic[T]):
    """Stride scheduling (Waldspurger and Weihl, 1995) over lanes that are queues.

    Whose lane has come least far is next, so that of the turns taken while several wait, each gets a share in
    proportion to its weight, and none starves. A lane that was empty begins where the others are: it has no claim to
    turns that it had no use for. In a lane, parties are served in turn (Nagle, "On packet switches with infinite
    storage", 1985): who sends a thousand requests keeps nobody waiting but itself. All methods but ``surplus`` take
    constant time, for a handful of priorities.
    """

    __slots__ = ("_lanes", "_now")

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._lanes: dict[str, _Lane[T]] = {priority: _Lane(weight) for priority, weight in weights.items()}
        self._now = 0.0  # how far the lane had come that was served last

    def add(self, item: T, priority: str, party: str = "", *, first: bool = False) -> None:
        """Add ``item``, as the last of its party's or, one that waited before, as the ``first`` of its lane."""
        lane = self._lanes[priority]
        if not lane.size:
            lane.passed = max(lane.passed, self._now)
        lane.add(item, party, first=first)

    def remove(self, item: T, priority: str, party: str = "") -> None:
        """Remove ``item``, which needs no turn any more."""
        self._lanes[priority].remove(item, party)

    def first(self) -> T | None:
        """Return the item whose turn it is, or None when nothing waits. It stays where it is."""
        lane = self._next()
        return lane.first() if lane is not None else None

    def take(self, item: T, priority: str, party: str = "") -> None:
        """Remove ``item``, which has had its turn."""
        lane = self._lanes[priority]
        lane.take(item, party)
        self._now = lane.passed
        lane.passed += lane.stride

    def surplus(self, priority: str, party: str) -> T | None:
        """Return the last item of who has most in a lane, None if ``party`` would have as many with one more.

        It takes time in proportion to the parties.
        """
        parties = self._lanes[priority].parties
        most = max(parties.values(), key=len, default=None)
        if most is None or len(most) <= len(parties.get(party, ())) + 1:
            return None
        return next(reversed(most))

    def length(self, priority: str) -> int:
        """Return how many items of ``priority`` wait."""
        return self._lanes[priority].size

    def _next(self) -> _Lane[T] | None:
        waiting = [lane for lane in self._lanes.values() if lane.size]
        return min(waiting, key=lambda lane: lane.passed, default=None)

    def __len__(self) -> int:
        return sum(lane.size for lane in self._lanes.values())

    def __repr__(self) -> str:
        return f"<FairQueue {' '.join(f'{name}={lane.size}' for name, lane in self._lanes.items())}>"
