"""Request ids: 128 random bits each, drawn from the system in blocks."""

from __future__ import annotations

import os

_DIGITS = 32
_BLOCK = 256


class RequestIds:
    """Gives ids of 32 hexadecimal digits. Nobody can guess one, and none costs a system call of its own."""

    __slots__ = ("_at", "_digits")

    def __init__(self) -> None:
        self._digits = ""
        self._at = 0

    def next(self) -> str:
        """Return a new id."""
        at = self._at
        if at == len(self._digits):
            self._digits = os.urandom(_BLOCK * _DIGITS // 2).hex()
            at = 0
        self._at = at + _DIGITS
        return self._digits[at : at + _DIGITS]

    def next_uuid4(self) -> str:
        """Return a new id as a UUIDv4 (RFC 9562 section 5.4)."""
        digits = self.next()
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
