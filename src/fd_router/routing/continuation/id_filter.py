"""The filter of token ids: those that the router asked for, and not the client, are taken out of the stream again."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from fd_router.routing.continuation.journal import LAST_CHUNK

_NAMES = rb'"(?:prompt_token_ids|token_ids|completion_token_ids)"\s*:\s*(?:\[[0-9,\s]*\]|null)'

_MEMBER: Final = re.compile(rb",\s*%b|%b\s*,\s*|%b" % (_NAMES, _NAMES, _NAMES))
"""A member with ids, and one comma. In a text, quotes are escaped."""


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
        content = _MEMBER.sub(b"", data[end + 2 : stop])
        pieces.append(b"%x\r\n%b\r\n" % (len(content), content))
        at = stop + 2
    return b"".join(pieces)


def _size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        return -1
