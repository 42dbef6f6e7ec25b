"""The usage tail: what an answer tells of the prompt, kept for whoever wants to know: its usage object, and its end."""

from __future__ import annotations

import re
from collections import deque
from typing import Final

from fd_router.http.client_stream import BodyOutlet

PIECES: Final = 4
"""Reads that are kept: the event with the usage, ``[DONE]`` and the last chunk may each come by themselves."""

TAIL: Final = 8 * 1024
"""Bytes of the end that are searched at most."""

USAGE: Final = 2 * 1024
"""Bytes from the last usage object on that are kept, whatever follows it: engines may put tokens behind it."""

_NAME: Final = b'"usage"'
_OBJECT: Final = re.compile(rb'"usage"\s*:\s*\{')
_SEAM: Final = 32
"""Bytes at the end of what has come in which a usage object may begin that more shows to be one."""


class UsageTail:
    """Passes the bytes of an answer on, and keeps its usage object and its last few reads."""

    __slots__ = ("_found", "_outlet", "_pieces", "_seam", "_wanted")

    def __init__(self, first: bytes, outlet: BodyOutlet) -> None:
        self._pieces: deque[bytes] = deque(maxlen=PIECES)
        self._outlet = outlet
        self._found = b""  # the last usage object and what came behind it …
        self._wanted = 0  # … of which so many bytes are still to come
        self._seam = b""  # the end of what has come, if an object may begin there
        self._keep(first)

    def write(self, data: bytes) -> None:
        """Take more of the answer."""
        self._keep(data)
        self._outlet.write(data)

    def write_to(self, outlet: BodyOutlet) -> None:
        """Pass on to ``outlet`` from now on."""
        self._outlet = outlet

    def tail(self) -> bytes:
        """Return the usage object, if there was one, and the end of what has come."""
        return self._found + b"".join(self._pieces)[-TAIL:]

    def _keep(self, data: bytes) -> None:
        self._pieces.append(data)
        if self._seam or data.find(_NAME) >= 0:
            self._look_for_object(self._seam + data)
        elif self._wanted:
            self._found += data[: self._wanted]
            self._wanted = USAGE - len(self._found)
        self._seam = b"" if data.endswith(b"\n") else (self._seam + data[-_SEAM:])[-_SEAM:]  # events come whole, mostly

    def _look_for_object(self, text: bytes) -> None:
        place = -1
        for match in _OBJECT.finditer(text):
            place = match.start()
        if place >= 0:
            self._found = text[place : place + USAGE]
        elif self._wanted:
            self._found += text[len(self._seam) :][: self._wanted]
        self._wanted = max(0, USAGE - len(self._found)) if self._found else 0

    def __repr__(self) -> str:
        return f"<UsageTail {sum(map(len, self._pieces))} bytes kept>"
