"""Where an answer's body begins: an engine's head, and comments that keep a stream's connection open, promise nothing.

ASGI servers send the head of a stream at once and its first token when there is one; some send server-sent comments
(``: ping``) meanwhile. An answer has begun when neither is all that came of it.
"""

from __future__ import annotations

from fd_router.http.chunks import chunk, whole_chunks
from fd_router.http.dechunk import dechunked
from fd_router.http.heads import ResponseHead

MAX_COMMENTS = 64 * 1024
"""Bytes of comments, empty lines and the sizes of their chunks that are held back."""

MAX_LINE = 64
"""Bytes of a stream's first line that are held back until it ends: enough to tell that it is an error."""

_EVENT_STREAM = b"text/event-stream"
_COMMENT_OR_EMPTY = frozenset((b":", b"\r", b"\n"))
_FIELDS = (b"data:", b"event:")
"""How the first line of an event begins by which an engine says that it failed."""


def has_begun(head: ResponseHead, body: bytes) -> bool:
    """Tell whether there is content in what came of a body so far, framed as it came: of a stream, its first line."""
    start = body.find(b"\r\n") + 2 if head.chunked else 0
    first = body[start : start + 1]
    if not first or (head.chunked and start < 3):
        return False  # not even a whole chunk's size
    if len(body) > (MAX_COMMENTS if first in _COMMENT_OR_EMPTY else MAX_LINE):
        return True
    return _EVENT_STREAM not in head.forward.lower() or _has_event(dechunked(body) if head.chunked else body)


def joined(body: bytes) -> bytes:
    """Make one chunk of the whole ones that a chunked body begins with: what they say is found in one piece."""
    contents, end = whole_chunks(body)
    return chunk(b"".join(contents)) + body[end:]


def _has_event(stream: bytes) -> bool:
    """Tell whether there is a line that is neither empty nor a comment, and not one of an event that is cut short."""
    for line in stream.splitlines(keepends=True):
        if line.strip() and not line.startswith(b":"):
            return line.endswith((b"\r", b"\n")) or len(line) > MAX_LINE or not _may_be_event(line)
    return False


def _may_be_event(line: bytes) -> bool:
    """Tell whether a line that isn't whole may become the first one of an event."""
    return any(name.startswith(line[: len(name)]) for name in _FIELDS)
