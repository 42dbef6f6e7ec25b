"""When a shadow policy looks on: at some requests in a row, then not until that has cost no more than its share."""

from __future__ import annotations

from collections.abc import Callable

SHARE = 0.01
"""Of the process' CPU time that its decisions may take: what stands around them takes thrice as much; 5 % are promised.
"""

WATCHED = 512
"""Requests in a row that it sees: a policy that learns must see all that goes to an instance for some time."""

UNCOUNTED = 128
"""Of these the first ones aren't counted for such a policy: it doesn't know yet what the instances have to do."""

LOOKED_AT = 32
"""Requests after which a resting shadow looks whether it may go on: a look at the clock isn't free either."""


class Watch:
    """``cpu`` tells the process' CPU time in seconds; ``clock`` is a stop-watch for what the shadow takes of it."""

    __slots__ = ("_began", "_clock", "_cpu", "_spent", "_started", "is_on", "resting", "seconds", "seen")

    def __init__(self, cpu: Callable[[], float], clock: Callable[[], float]) -> None:
        self._cpu = cpu
        self._clock = clock
        self.is_on = True
        self.seen = 0  # requests of this watch
        self.seconds = 0.0  # that the shadow took, in all
        self._spent = 0.0  # of these, in this watch
        self._started = cpu()
        self.resting = 0
        """So many requests pass by without ``rests`` being asked: who asks counts them down."""
        self._began = 0.0

    def rests(self) -> bool:
        """Whether the next request isn't to be looked at."""
        if self.is_on:
            self.seen += 1
            if self.seen <= WATCHED:
                return False
            self.is_on = False
        elif self._spent <= SHARE * (self._cpu() - self._started):
            self.is_on, self.seen, self._spent, self._started = True, 1, 0.0, self._cpu()
            return False
        self.resting = LOOKED_AT
        return True

    def __enter__(self) -> None:
        """What follows is the shadow's work."""
        self._began = self._clock()

    def __exit__(self, *_: object) -> None:
        took = self._clock() - self._began
        self._spent += took
        self.seconds += took

    def __repr__(self) -> str:
        return f"<Watch {'on' if self.is_on else 'at rest'}, {self.seen} requests>"
