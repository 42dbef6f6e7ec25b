"""Large bodies that only the standard library's decoder takes: it would hold the loop for seconds.

What a request says beyond JSON's rules (a lone surrogate, ``NaN``, bytes that are no UTF-8) is replaced in a copy for
the fast decoder. Only scheduling sees the copy, where a character more or less doesn't matter; the body itself goes on
byte for byte. Each step is one pass in C.
"""

from __future__ import annotations

LARGE = 256 * 1024
"""Bytes from which on the tolerant decoder takes too long for the loop."""

_REPLACEMENTS = (
    (b"\\ud", b"\\uf"),  # surrogates become characters for private use
    (b"\\uD", b"\\uf"),
    (b"NaN", b"0.0"),
    (b"Infinity", b"99999999"),
)
"""Of the same lengths, so that they cost no more than a look at each byte, and right in any place, strings too."""


def as_json(body: bytes) -> bytes:
    """Return ``body`` as JSON that every decoder takes, if it is at all like JSON."""
    try:
        body.decode()
    except UnicodeDecodeError:
        body = body.decode("utf-8", "replace").encode()
    for what, instead in _REPLACEMENTS:
        body = body.replace(what, instead)
    return body
