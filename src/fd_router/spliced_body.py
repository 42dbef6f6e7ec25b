"""A long body with something put in or taken out: sent in pieces, so that nothing of it is copied, or held twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

LONG: Final = 1024 * 1024
"""Bytes from which on a body is spliced rather than copied: a copy of 60 MB holds the loop for 40 ms, or more."""

_FEW: Final = 64
"""Bytes that are rather copied than sent as a piece of their own."""

Change = tuple[int, int, bytes]
"""From where to where bytes are replaced, and by what."""


class SplicedBody:
    """What is sent instead of ``base``: ``changes``, in order, and what is between them. ``bytes()`` joins it."""

    __slots__ = ("_size", "base", "changes", "pieces")

    def __init__(self, base: bytes, changes: Sequence[Change]) -> None:
        self.base = base
        self.changes = changes
        self.pieces = pieces = _pieces(base, changes)
        self._size = sum(map(len, pieces))

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join(self.pieces)

    def __repr__(self) -> str:
        return f"<SplicedBody {self._size} bytes>"


Body = bytes | SplicedBody
"""What is sent as a body. A ``SplicedBody`` is always a long one: see ``http.heads.LONG_BODY``."""


def changed(body: Body, changes: Sequence[Change]) -> Body:
    """Return ``body`` with ``changes``, in order, each of a place in the base, or in the body that is no spliced one.

    A change takes along what was changed within its place. What is put in stands before what was put in there earlier.
    """
    if isinstance(body, bytes):
        return SplicedBody(body, changes) if len(body) >= LONG else b"".join(_pieces(body, changes))
    kept = [old for old in body.changes if not any(_takes_along(new, old) for new in changes)]
    return SplicedBody(body.base, sorted((*changes, *kept), key=_place))


def base_of(body: Body) -> bytes:
    """Return the body, or what a spliced one was made of."""
    return body if isinstance(body, bytes) else body.base


def changes_of(body: Body) -> Sequence[Change]:
    """Return what was changed in it."""
    return () if isinstance(body, bytes) else body.changes


def pieces_of(bodies: Iterable[Body]) -> list[bytes | memoryview]:
    """Return what is to be written, one after the other."""
    pieces: list[bytes | memoryview] = []
    for body in bodies:
        if isinstance(body, SplicedBody):
            pieces += body.pieces
        else:
            pieces.append(body)
    return pieces


def _place(change: Change) -> tuple[int, int]:
    return change[:2]


def _takes_along(new: Change, old: Change) -> bool:
    is_put_in = old[0] == old[1]
    return new[0] < old[0] < new[1] if is_put_in else new[0] <= old[0] and old[1] <= new[1]


def _pieces(base: bytes, changes: Sequence[Change]) -> list[bytes | memoryview]:
    whole, at = memoryview(base), 0
    pieces: list[bytes | memoryview] = []
    for start, end, piece in changes:
        if start - at > _FEW:
            pieces.append(whole[at:start])
            if piece:
                pieces.append(piece)
        elif few := base[at:start] + piece:
            pieces.append(few)
        at = end
    if at < len(base):
        pieces.append(whole[at:])
    return pieces
