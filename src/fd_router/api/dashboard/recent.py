"""What the dashboard lists: the last entries, and of them those that viewers haven't been told yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

KEPT: Final = 50
"""Of the last ones, for who opens the page next."""


class RecentList:
    """Keeps the last entries as JSON.

    ``wanted``: how many its owner still takes before the next frame; ``unseen``: those since the last one that weren't.
    """

    def __init__(self, clock: Callable[[], float], per_frame: int) -> None:
        """``clock``: seconds since 1970."""
        self._clock = clock
        self._per_frame = per_frame
        self._new: list[dict[str, Any]] = []
        self.kept: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self.wanted = per_frame
        self.unseen = 0

    def add(self, **entry: Any) -> None:
        """Add an entry of now."""
        entry["at"] = round(self._clock(), 3)
        self.kept.append(entry)
        if len(self._new) < KEPT:
            self._new.append(entry)

    def take(self) -> tuple[list[dict[str, Any]], int]:
        """Return those since the last call, and how many there were beside them."""
        new, self._new = self._new, []
        unseen, self.unseen = self.unseen, 0
        self.wanted = self._per_frame
        return new, unseen

    def taken(self) -> list[dict[str, Any]]:
        """Return those that are kept, but for what the next frame will tell."""
        pending = set(map(id, self._new))
        return [entry for entry in self.kept if id(entry) not in pending]
