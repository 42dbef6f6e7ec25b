"""Prompts on their way to a cache whose engine tells what it holds: sent, and not told of yet."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

PENDING_SECS: Final = 30.0
"""How long a prompt that was sent counts as held without a word of the engine: it may have been given up."""

MOST: Final = 4096
"""Prompts on their way to one cache that are remembered."""


class _Sent(NamedTuple):
    when: float
    room: int


class OnTheirWay:
    """A prompt is known by the name of its last block; 0: not known yet.

    Of a prompt that isn't told of, neither is told what was evicted for it: ``room`` is how much that may be.
    """

    __slots__ = ("_prompts", "_room", "settled")

    def __init__(self) -> None:
        self._prompts: dict[int, _Sent] = {}  # in the order in which they were sent last
        self._room = 0
        self.settled = 0.0  # what was sent up to then has been told

    def sent(self, name: int, now: float, room: int) -> None:
        """Note that a prompt was sent which takes ``room`` blocks that it doesn't find there."""
        before = self._take(name)
        if len(self._prompts) >= MOST:
            self._take(next(iter(self._prompts)))
        room += before.room if before is not None else 0
        self._prompts[name] = _Sent(now, room)
        self._room += room

    def room(self, now: float) -> int:
        """Return how many blocks those that are on their way take which they don't find there."""
        self._drop(now - PENDING_SECS)
        return self._room

    def settle(self, told: Collection[int]) -> None:
        """The engine has stored blocks of these names. It begins with what was sent first."""
        for name in self._prompts.keys() & set(told):
            self.settled = max(self.settled, self._prompts[name].when)
        self._drop(self.settled)

    def give_up(self, now: float) -> None:
        """What was sent up to now isn't awaited any more."""
        self._prompts.clear()
        self._room = 0
        self.settled = now

    def _drop(self, until: float) -> None:
        """Await no more what was sent up to then."""
        while self._prompts:
            name = next(iter(self._prompts))
            if self._prompts[name].when > until:
                return
            self._take(name)

    def _take(self, name: int) -> _Sent | None:
        prompt = self._prompts.pop(name, None)
        if prompt is not None:
            self._room -= prompt.room
        return prompt

    def __len__(self) -> int:
        return len(self._prompts)

    def __repr__(self) -> str:
        return f"<OnTheirWay: {len(self._prompts)} prompts, {self._room} blocks>"
