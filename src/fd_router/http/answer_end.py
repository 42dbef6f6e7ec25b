"""Where an answer ends: line ends behind it are the instance's slip, and no client's next answer may begin with them.

The parser skips carriage returns and line feeds between two messages (RFC 9112 section 2.2), so it doesn't tell of
them. Anything else there it reports itself.
"""

from __future__ import annotations

_END_OF_CHUNKS = b"\r\n\r\n"

ENOUGH = len(_END_OF_CHUNKS)
"""Bytes received last that ``strays_behind_chunks`` needs to know."""

_LINE_ENDS = b"\r\n"


def strays_behind_chunks(before: bytes, data: bytes) -> int:
    """Return how many bytes at the end of ``data`` are behind the last chunk, whose end is in ``data``.

    ``before`` are the last bytes received before ``data``, four at least if there were so many. Whatever the last chunk
    looked like, with trailers or without, its last character is followed by just two line ends.
    """
    if data.endswith(_END_OF_CHUNKS) and len(data) > 4 and data[-5] not in _LINE_ENDS:  # nearly always
        return 0
    both = before + data
    return len(both) - len(both.rstrip(_LINE_ENDS)) - len(_END_OF_CHUNKS)


def last_bytes(before: bytes, data: bytes) -> bytes:
    """Return what ``strays_behind_chunks`` needs to know of ``before`` and ``data``."""
    return data if len(data) >= ENOUGH else (before + data)[-ENOUGH:]
