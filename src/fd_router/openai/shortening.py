"""A large body's shorter copy, for who reads it: texts are cut to what scheduling looks at, the rest is counted.

To decode tens of MB would hold the loop for longer than a client of another request should wait. The copy says the same
but for the ends of long strings; the body itself goes on byte for byte.
"""

from __future__ import annotations

import re

from fd_router.openai.large_prompts import READ, place_to_cut

SHORT = 1024
"""Bytes of a string that is never cut."""

_OF_A_TEXT = re.compile(rb"[\s\\\x80-\xff]")
"""What base64 and URLs don't have, and a text has: white space, an escape, a character beyond ASCII."""


class Shortening:
    """Takes the strings of a body in turn (``string``), and puts the copy together (``body``)."""

    __slots__ = ("_body", "_copied", "_left", "_pieces", "unread")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._pieces: list[bytes] = []
        self._copied = 0  # bytes of the body that are dealt with
        self._left = READ
        self.unread = 0
        """Characters of text that aren't in the copy, about."""

    def string(self, start: int, end: int) -> None:
        """There is a string from the quote at ``start`` to just behind the quote that ends it at ``end``."""
        size = end - start
        if size <= SHORT:
            return
        body = self._body
        is_text = _OF_A_TEXT.search(body, start + 1, start + SHORT) is not None
        most = self._left if is_text else 0
        if is_text:
            self._left = max(0, most - size)
        if size <= most:
            return
        cut = start + place_to_cut(memoryview(body)[start:end], most)
        if cut in {start, end}:  # no place was found
            cut = start + 1
        self._pieces += (body[self._copied : cut], b'"')
        self._copied = end
        if is_text:
            shown = body[start + 1 : start + SHORT]
            self.unread += (end - 1 - cut) * len(shown.decode("utf-8", "ignore")) // len(shown)

    def body(self) -> bytes:
        """Return the copy, or the body itself where there was nothing to cut."""
        if not self._pieces:
            return self._body
        return b"".join((*self._pieces, self._body[self._copied :]))
