"""A long body with something put into it: it is sent in pieces, so that what it was made of isn't held twice."""

from __future__ import annotations

from collections.abc import Iterable


class SplicedBody:
    """What is sent instead of ``body``: its first ``start`` bytes, then ``inserted``, then all others.

    ``bytes()`` puts it together.
    """

    __slots__ = ("_size", "pieces")

    def __init__(self, body: bytes, start: int, inserted: bytes) -> None:
        self.pieces: tuple[bytes | memoryview, ...] = (body[:start] + inserted, memoryview(body)[start:])
        self._size = len(body) + len(inserted)

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join(self.pieces)

    def __repr__(self) -> str:
        return f"<SplicedBody {self._size} bytes>"


Body = bytes | SplicedBody
"""What is sent as a body. A ``SplicedBody`` is always a long one: see ``heads.LONG_BODY``."""


def pieces_of(bodies: Iterable[Body]) -> list[bytes | memoryview]:
    """Return what is to be written, one after the other."""
    pieces: list[bytes | memoryview] = []
    for body in bodies:
        if isinstance(body, SplicedBody):
            pieces += body.pieces
        else:
            pieces.append(body)
    return pieces
