"""The usage tail: the end of an answer, kept for whoever wants to know what the engine tells there of the prompt."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

PIECES = 4
"""Reads that are kept: the event with the usage, ``[DONE]`` and the last chunk may each come by themselves."""

TAIL = 8 * 1024
"""Bytes that are searched at most: the usage stands at the end."""


class UsageTail:
    """Passes the bytes of an answer on, and keeps its last few reads."""

    __slots__ = ("_pieces", "_write")

    def __init__(self, first: bytes, write: Callable[[bytes], None]) -> None:
        self._pieces = deque((first,), PIECES)
        self._write = write

    def feed(self, data: bytes) -> None:
        """Take more of the answer."""
        self._pieces.append(data)
        self._write(data)

    def write_to(self, write: Callable[[bytes], None]) -> None:
        """Pass on to ``write`` from now on."""
        self._write = write

    def tail(self) -> bytes:
        """Return the end of what has come."""
        return b"".join(self._pieces)[-TAIL:]

    def __repr__(self) -> str:
        return f"<UsageTail {sum(map(len, self._pieces))} bytes kept>"
