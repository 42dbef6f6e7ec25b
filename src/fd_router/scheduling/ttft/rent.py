"""Rent: what requests put up with for the sake of a prefix that many share and few instances have."""

from __future__ import annotations

import math
from collections import OrderedDict

MOST = 4096
"""Prefixes that are remembered; the one asked for least recently is forgotten."""

HORIZON = 16.0
"""Choices for each instance after which a use of a prefix counts a third or so."""

PRIOR = 6.0
"""Choices of others that are taken to have been before the first: a share isn't believed before there are some."""


class _Prefix:
    """What is known of one prefix."""

    __slots__ = ("last", "paid", "room", "uses")

    def __init__(self) -> None:
        self.paid = 0.0  # seconds
        self.room = 0.0  # seconds paid for room in caches
        self.uses = 0.0
        self.last = 0


class Rent:
    """Seconds of crowding and waiting, by the key of a prefix, since it was computed somewhere anew.

    To rent or to buy: going to where the prefix is costs a little each time, when others are less busy; computing it
    elsewhere costs once, and serves all that come later. Who buys as soon as the rent paid equals the price pays at
    most twice what knowing the future would (the ski-rental problem: Karlin, Manasse, Rudolph, Sleator, 1988). Rent is
    counted only while fewer instances have the prefix than its share of the traffic would fill.
    """

    __slots__ = ("_choices", "_prefixes", "_total")

    def __init__(self) -> None:
        self._prefixes: OrderedDict[bytes, _Prefix] = OrderedDict()
        self._choices = 0
        self._total = 0.0  # the uses of all, which fade in the same way

    def paid(self, key: bytes, holders: int, instances: int) -> float:
        """Return what was paid for a prefix that ``holders`` of so many instances have, and that is asked for now."""
        prefix = self._prefixes.get(key)
        if prefix is None:
            return 0.0
        if not prefix.paid:
            return prefix.room
        horizon = HORIZON * instances
        uses = prefix.uses * math.exp((prefix.last - self._choices) / horizon)
        share = uses / (PRIOR + self._total)
        return prefix.room + prefix.paid if share * instances > holders else prefix.room

    def use(self, key: bytes, instances: int, crowding: float = 0.0, room: float = 0.0, *, is_new: bool) -> None:
        """A request with the prefix goes to one that has it, or else ``is_new`` there. ``room``: what it pays for that.

        What a conversation needs of a cache, it needs for all that will come of it: so few ask for a prefix anew that
        its share tells nothing.
        """
        self._choices += 1
        self._total += 1.0 - self._total / (HORIZON * instances)
        prefix = self._prefixes.get(key)
        if prefix is None:
            prefix = self._prefixes[key] = _Prefix()
            if len(self._prefixes) > MOST:
                self._prefixes.popitem(last=False)
        else:
            self._prefixes.move_to_end(key)
        prefix.uses = prefix.uses * math.exp((prefix.last - self._choices) / (HORIZON * instances)) + 1.0
        prefix.last = self._choices
        prefix.paid = 0.0 if is_new else prefix.paid + crowding
        prefix.room = 0.0 if is_new else prefix.room + room

    def __repr__(self) -> str:
        return f"<Rent for {len(self._prefixes)} prefixes>"
