"""Where an answer's body begins: an engine's head, and comments that keep a stream's connection open, promise nothing.

ASGI servers send the head of a stream at once and its first token when there is one; some send server-sent comments
(``: ping``) meanwhile. An answer has begun when neither is all that came of it.
"""

from __future__ import annotations

from fd_router.http.dechunk import dechunked
from fd_router.http.heads import ResponseHead

MAX_COMMENTS = 64 * 1024
"""Bytes of comments, empty lines and the sizes of their chunks that are held back."""

_EVENT_STREAM = b"text/event-stream"
_COMMENT_OR_EMPTY = b":\r\n"


def has_begun(head: ResponseHead, body: bytes) -> bool:
    """Tell whether there is content in what came of a body so far, framed as it came."""
    start = body.find(b"\r\n") + 2 if head.chunked else 0
    first = body[start : start + 1]
    if not first or (head.chunked and start < 3):
        return False  # not even a whole chunk's size
    if first not in _COMMENT_OR_EMPTY or _EVENT_STREAM not in head.forward.lower() or len(body) > MAX_COMMENTS:
        return True
    return _has_event(dechunked(body) if head.chunked else body)


def _has_event(stream: bytes) -> bool:
    """Tell whether there is a line that is neither empty nor a comment."""
    return any(line and not line.startswith(b":") for line in stream.splitlines())
