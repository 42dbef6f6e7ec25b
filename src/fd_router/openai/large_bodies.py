"""Large bodies that only the standard library's decoder takes: it would hold the loop for seconds.

What a request says beyond JSON's rules (a lone surrogate, ``NaN``, bytes that are no UTF-8) is replaced in a copy for
the fast decoder. Only scheduling sees the copy, where a character more or less doesn't matter; the body itself goes on
byte for byte. Each step is one pass in C; of a very large body, slices are looked at in turn.
"""

from __future__ import annotations

import codecs
from collections.abc import Awaitable, Callable

from fd_router.errors import BadRequestError

Breathe = Callable[[], Awaitable[None]]
"""Lets others have a turn, where a slice has taken long enough."""

LARGE = 256 * 1024
"""Bytes from which on the tolerant decoder takes too long for the loop."""

READ_AT_ONCE = 128 * 1024
"""Bytes of a body of any kind that are read in one go: 25 ms at most, if it is all lists."""

READ_AT_ONCE_AS_FIELDS = 512 * 1024
"""The same where the decoder knows the fields, and makes no object for each that it doesn't."""

VERY_LARGE = 1024 * 1024
"""Bytes from which on these replacements do, too, in one go."""

SLICE = 512 * 1024

_REPLACEMENTS = (
    (b"\\ud", b"\\uf"),  # surrogates become characters for private use
    (b"\\uD", b"\\uf"),
    (b"NaN", b"0.0"),
    (b"Infinity", b"99999999"),
)
"""Of the same lengths, so that they cost no more than a look at each byte, and right in any place, strings too."""

_KEPT_BACK = max(len(what) for what, _ in _REPLACEMENTS) - 1
"""Bytes at a slice's end that may begin what is to be replaced."""


class UnusualBodyError(BadRequestError):
    """A very large body is no JSON by the rules; ``as_json_in_slices`` can make some of it."""


def as_json(body: bytes) -> bytes:
    """Return ``body`` as JSON that every decoder takes, if it is at all like JSON.

    Raises UnusualBodyError for a very large one.
    """
    if len(body) > VERY_LARGE:
        raise UnusualBodyError("Invalid JSON format: the body breaks JSON's rules (RFC 8259)", code="invalid_json")
    try:
        body.decode()
    except UnicodeDecodeError:
        body = body.decode("utf-8", "replace").encode()
    return _replaced(body)


async def as_json_in_slices(body: bytes, breathe: Breathe) -> bytes:
    """Do the same for a body of any size, and let others have a turn between slices."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    done, rest = [], b""
    for start in range(0, len(body), SLICE):
        piece = decoder.decode(body[start : start + SLICE], final=start + SLICE >= len(body)).encode()
        piece = _replaced(rest + piece)
        done.append(piece[:-_KEPT_BACK])
        rest = piece[-_KEPT_BACK:]
        await breathe()
    return b"".join([*done, rest])


def _replaced(body: bytes) -> bytes:
    for what, instead in _REPLACEMENTS:
        body = body.replace(what, instead)
    return body
