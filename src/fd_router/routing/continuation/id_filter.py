"""The filter of token ids: those that the router asked for, and not the client, are taken out of the stream again."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from fd_router.routing.continuation.journal import LAST_CHUNK

_MEMBER: Final = rb'"(?:prompt_|completion_)?token_ids"\s*:\s*(?:\[[0-9,\s]*\]|null)'
"""A member with ids. In a text, quotes are escaped."""

_BEHIND_ANOTHER: Final = re.compile(rb",\s*" + _MEMBER)
_FIRST: Final = re.compile(_MEMBER + rb"(?:\s*,\s*)?")
"""Each with one comma. Two searches for what begins with one character cost less than one for either."""

_ANY: Final = b'token_ids"'


class IdFilter:
    """Takes pieces of whole chunks, and gives them on without ids; what isn't so it gives on as it came."""

    __slots__ = ("_write",)

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def feed(self, data: bytes) -> None:
        """Take more of the stream."""
        self._write(without_ids(data))


def without_ids(data: bytes) -> bytes:
    """Return whole chunks without ids, each framed anew; other bytes as they are."""
    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        end = data.find(b"\r\n", at)
        size = _size(data[at:end]) if end > at else -1
        stop = end + 2 + size
        if size < 0 or data[stop : stop + 2] != b"\r\n":
            return data
        if size == 0:
            return data if stop + 2 != len(data) else b"".join((*pieces, LAST_CHUNK))
        content = _without_members(data[end + 2 : stop])
        pieces.append(b"%x\r\n%b\r\n" % (len(content), content))
        at = stop + 2
    return b"".join(pieces)


def _without_members(content: bytes) -> bytes:
    if content.find(_ANY) < 0:
        return content
    content = _BEHIND_ANOTHER.sub(b"", content)
    return content if content.find(_ANY) < 0 else _FIRST.sub(b"", content)


def _size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        return -1
