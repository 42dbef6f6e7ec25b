"""Chunks as they are framed (RFC 9112 section 7.1): how one is written, and which whole ones a body begins with."""

from __future__ import annotations

from typing import Final

LAST_CHUNK: Final = b"0\r\n\r\n"


def chunk(content: bytes) -> bytes:
    """Frame ``content``; nothing makes no chunk, since an empty one is the last."""
    return b"%x\r\n%b\r\n" % (len(content), content) if content else b""


def whole_chunks(body: bytes | bytearray, at: int = 0) -> tuple[list[bytes], int]:
    """Return the contents of the whole chunks that ``body`` has from ``at`` on, the last one aside, and their end."""
    contents: list[bytes] = []
    while (line := body.find(b"\r\n", at)) > at:
        start, size = line + 2, _size(body[at:line])
        stop = start + size
        if size <= 0 or body[stop : stop + 2] != b"\r\n":
            break
        contents.append(bytes(body[start:stop]))
        at = stop + 2
    return contents, at


def _size(line: bytes | bytearray) -> int:
    """Read the size in a chunk's first line, behind which there may be extensions; -1: there is none."""
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        return -1
