"""Heads of messages with a sized body that were seen before: what was made of them holds again, without parsing them.

A sender mostly sends the same head on a connection, but for the length of the body, and many connections have the same
ones: theirs are one object, as is all that was made of it, so that the processor's caches have it at hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from fd_router.http.heads import END_OF_HEAD

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)\r\n", re.IGNORECASE)

HeadT = TypeVar("HeadT")


class KnownHead(Generic[HeadT]):
    """A head, byte for byte, but for the digits of its body's length."""

    __slots__ = ("__weakref__", "_end", "_head", "_head_size", "_size", "_start", "_start_size", "meaning")

    def __init__(self, message: bytes, digits: slice, end: int, meaning: HeadT) -> None:
        """``message`` has a head up to ``end``, with the body's length at ``digits``."""
        self.meaning = meaning
        """What was made of it."""
        self._size = len(message)
        self._head, self._head_size = message[:end], end
        self._start, self._start_size = message[: digits.start], digits.start
        self._end = message[digits.stop : end]

    @classmethod
    def learn(cls, message: bytes, length: int, meaning: HeadT) -> KnownHead[HeadT] | None:
        """Remember the head of a whole message with a sized body of ``length`` bytes, if it is that simple."""
        end = message.find(END_OF_HEAD) + 4
        at = _CONTENT_LENGTH.search(message, 0, end)
        if at is None or len(message) != end + length or at[1] != b"%d" % length:
            return None
        return cls(message, slice(*at.span(1)), end, meaning)

    def body_of(self, message: bytes) -> bytes | None:
        """Return the body of ``message`` if it is a whole one with this head, else None.

        Slices are compared, which costs half as much as ``startswith``.
        """
        size = self._head_size
        if len(message) == self._size and message[:size] == self._head:
            return message[size:]
        size, end = self._start_size, self._end
        if message[:size] != self._start:
            return None
        at = message.find(b"\r", size)
        body_at = at + len(end)
        if at < 0 or message[at:body_at] != end:
            return None
        digits, body = message[size:at], message[body_at:]
        return body if digits == b"%d" % len(body) else None

    @property
    def parts(self) -> tuple[bytes, bytes]:
        """What is in front of the digits, and what behind them."""
        return self._start, self._end


class KnownHeads(Generic[HeadT]):
    """The known heads of many connections. They live as long as one of those has them."""

    __slots__ = ("_are_alike", "_known")

    def __init__(self, are_alike: Callable[[HeadT, HeadT], bool]) -> None:
        """``are_alike``: whether the one meaning serves for the other, too, where the bytes are the same."""
        self._are_alike = are_alike
        self._known: WeakValueDictionary[tuple[bytes, bytes, Hashable], KnownHead[HeadT]] = WeakValueDictionary()

    def learn(self, message: bytes, length: int, meaning: HeadT, sender: Hashable = None) -> KnownHead[HeadT] | None:
        """Do as ``KnownHead.learn``, for a message of ``sender``; what others have learnt serves as well."""
        known = KnownHead.learn(message, length, meaning)
        if known is None:
            return None
        key = (*known.parts, sender)
        other = self._known.get(key)
        if other is not None and self._are_alike(other.meaning, meaning):
            return other
        self._known[key] = known
        return known

    def __len__(self) -> int:
        return len(self._known)
