"""The head of a streamed answer that was seen before on its connection: what was made of it holds again."""

from __future__ import annotations

import re

from msgspec.structs import replace

from fd_router.http.heads import ResponseHead

_DATE = rb"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
"""A time as servers write it (RFC 9110 section 5.6.7): always as long."""

_DATE_LINE = re.compile(rb"\r\ndate:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)", re.IGNORECASE)
_is_date = re.compile(_DATE).fullmatch


class KnownStreamHead:
    """A head, byte for byte, but for the time in its ``Date``: engines send another one each second."""

    __slots__ = ("_bytes", "_date", "_forward_date", "head", "size")

    def __init__(self, data: bytes, head: ResponseHead) -> None:
        """``data``: the bytes that ``head`` was made of."""
        self._bytes = data
        self.head = head
        self.size = len(data)
        self._date, self._forward_date = _only_date(data), _only_date(head.forward)

    def begins(self, answer: bytes) -> bool:
        """Return whether ``answer`` begins with it; then ``head`` is that answer's."""
        given = answer[: self.size]
        return given == self._bytes or (len(given) == self.size and self._is_later(given))

    def _is_later(self, given: bytes) -> bool:
        """Return whether ``given`` differs in its date only, and take that one over."""
        date, place, known = self._date, self._forward_date, self._bytes
        if date is None or place is None:
            return False
        now = given[date]
        if given[: date.start] != known[: date.start] or given[date.stop :] != known[date.stop :] or not _is_date(now):
            return False
        forward = self.head.forward
        self._bytes = given
        self.head = replace(self.head, forward=forward[: place.start] + now + forward[place.stop :])
        return True


def _only_date(head: bytes) -> slice | None:
    """Return where the time in a head's ``Date`` is; None: there is no such line, more than one, or another value."""
    found = list(_DATE_LINE.finditer(head))
    return slice(*found[0].span(1)) if len(found) == 1 and _is_date(found[0][1]) else None
