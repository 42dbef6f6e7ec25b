"""The filter of token ids: those that the router asked for, and not the client, are taken out of the stream again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from fd_router.http.chunks import LAST_CHUNK, chunk, whole_chunks
from fd_router.http.client_stream import BodyOutlet
from fd_router.http.heads import ResponseHead
from fd_router.routing.continuation.id_scanner import IdScanner

_MEMBER: Final = rb'"(?:prompt_|completion_)?token_ids"\s*:\s*(?:\[[0-9,\s]*\]|null)'
"""A member with ids. In a text, quotes are escaped."""

_BEHIND_ANOTHER: Final = re.compile(rb",\s*" + _MEMBER)
_FIRST: Final = re.compile(_MEMBER + rb"(?:\s*,\s*)?")
"""Each with one comma. Two searches for what begins with one character cost less than one for either."""

_ANY: Final = b'token_ids"'

_EVENT_ENDS: Final = (b"\n\n", b"\r\n\r\n")


class IdFilter:
    """Takes an answer's body, and gives it on without ids."""

    __slots__ = ("_outlet", "head")

    _outlet: BodyOutlet

    def __init__(self, head: ResponseHead) -> None:
        self.head = head
        """What the client is to be sent."""

    def before(self, outlet: BodyOutlet) -> BodyOutlet:
        """Return who takes what comes from now on, and gives ``outlet`` what the client may see."""
        self._outlet = outlet
        return self

    def shown(self, data: bytes) -> bytes:
        """Take more of the body. Returns what the client may see by now."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Take more of the body, and give on what the client may see by now."""
        if shown := self.shown(data):
            self._outlet.write(shown)


class ChunkedIdFilter(IdFilter):
    """For a body in chunks, which are framed anew.

    Nearly always its pieces are whole chunks with whole events; once one isn't, nothing is taken for granted.
    """

    __slots__ = ("_cut",)

    def __init__(self, head: ResponseHead) -> None:
        super().__init__(head)
        self._cut: _CutChunks | None = None

    def shown(self, data: bytes) -> bytes:
        """Take more of the body. Returns what the client may see by now."""
        if self._cut is None:
            if (shown := _without_ids(data)) is not None:
                return shown
            self._cut = _CutChunks()
        return self._cut.shown(data)


class PlainIdFilter(IdFilter):
    """For a body that isn't in chunks. One whose length was told goes on in chunks: it becomes shorter."""

    __slots__ = ("_left", "_scanner")

    def __init__(self, head: ResponseHead) -> None:
        super().__init__(head if head.length < 0 else ResponseHead.of(head.status, head.forward, chunked=True))
        self._scanner = IdScanner()
        self._left = head.length  # of the body; below 0: it ends with the connection

    def shown(self, data: bytes) -> bytes:
        """Take more of the body. Returns what the client may see by now."""
        content = self._scanner.feed(data)
        if self._left < 0:
            return content
        self._left -= len(data)
        if self._left > 0:
            return chunk(content)
        return chunk(content + self._scanner.end()) + LAST_CHUNK


class _CutChunks:
    """Takes chunks in any pieces; the syntax of their sizes has been checked on the way in."""

    __slots__ = ("_is_over", "_left", "_line", "_scanner")

    def __init__(self) -> None:
        self._scanner = IdScanner()
        self._left = 0  # of a chunk's content
        self._line = b""  # the beginning of one with a size
        self._is_over = False

    def shown(self, data: bytes) -> bytes:
        if self._is_over:
            return b""
        content = b"".join([self._scanner.feed(content) for content in self._contents(data)])
        if self._is_over:
            return chunk(content + self._scanner.end()) + LAST_CHUNK
        return chunk(content)

    def _contents(self, data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data) and not self._is_over:
            if self._left:
                content = data[at : at + self._left]
                self._left -= len(content)
                at += len(content)
                yield content
            else:
                at = self._read_line(data, at)

    def _read_line(self, data: bytes, at: int) -> int:
        """Read a line with a chunk's size, or the empty one behind its content. Returns where that ends."""
        end = data.find(b"\n", at) + 1 or len(data)
        self._line += data[at:end]
        if self._line.endswith(b"\n"):
            line, self._line = self._line.strip(), b""
            if line:
                self._left = int(line.partition(b";")[0], 16)
                self._is_over = not self._left
        return end


def _without_ids(data: bytes) -> bytes | None:
    """Return whole chunks of whole events without ids, each framed anew; None: they aren't such."""
    contents, end = whole_chunks(data)
    rest = data[end:]
    if rest not in (b"", LAST_CHUNK) or not all(content.endswith(_EVENT_ENDS) for content in contents):
        return None
    return b"".join([chunk(_without_members(content)) for content in contents]) + rest


def _without_members(content: bytes) -> bytes:
    if content.find(_ANY) < 0:
        return content
    content = _BEHIND_ANOTHER.sub(b"", content)
    return content if content.find(_ANY) < 0 else _FIRST.sub(b"", content)
