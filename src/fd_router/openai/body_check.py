"""The check of a large body, in slices, before anything reads it: what costs a decoder too much time is refused.

A decoder works in one go. 60 MB of text take it no longer than a few ten ms, 60 MB of numbers, lists or escapes a
hundred times as long, and nobody else has a turn meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from fd_router.errors import BadRequestError
from fd_router.openai.large_bodies import Breathe
from fd_router.openai.large_prompts import READ_IN_PART
from fd_router.openai.shortening import Shortening

MAX_WEIGHT = 400_000
"""What a large body may weigh: a value weighs 1, a string ``STRING`` more, an object or a list ``CONTAINER``. That is
enough for the tokens of any prompt."""

STRING = 5
"""How much longer a string takes than a number: it is stripped, counted and joined, too. A member's name is one."""

CONTAINER = 6
"""How much longer an object takes than a number, where the decoder knows what is in it; see ``Endpoint.container``."""

ANY_CONTAINER = 3 * CONTAINER
"""The same where it becomes a dictionary."""

MAX_ESCAPES = 4_000_000
"""Escapes in the strings of a large body: of a text in Chinese, each character may be one."""

SLICE = 256 * 1024
"""Bytes that are looked at between two looks at the clock."""

STEPS = 1000
"""Strings, and what is between them, that are looked at in a slice at most."""

_ESCAPED_TEXT = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_QUOTE, _BACKSLASH = b'"', b"\\"


async def check_body(body: bytes, breathe: Breathe, container: int = CONTAINER) -> Shortening:
    """Raise BadRequestError (413) for JSON that takes too long to read. What doesn't begin as an object isn't checked.

    It is for large bodies: a smaller one can't hold the loop for long. ``container``: what an object weighs. Returns
    the shorter copy of one that is longer than ``READ_IN_PART``, of another one itself.
    """
    shortening = Shortening(body)
    if body[:SLICE].lstrip()[:1] not in {b"{", b""}:  # a form, say
        return shortening
    scan = _Scan(body, shortening.string if len(body) > READ_IN_PART else _nothing, container)
    while not scan.is_over:
        scan.look_on()
        await breathe()
    return shortening


def _nothing(start: int, end: int) -> None:
    """Nobody wants to know where the strings are."""


class _Scan:
    """How far a body has been looked at, and what was found."""

    __slots__ = ("_at", "_body", "_container", "_escapes", "_in_string", "_on_string", "_started", "_weight")

    def __init__(self, body: bytes, on_string: Callable[[int, int], None], container: int = CONTAINER) -> None:
        self._body = body
        self._container = container
        self._on_string = on_string
        self._started = 0  # where the string begins that is looked at
        self._at = 0
        self._in_string = False
        self._weight = self._escapes = 0

    @property
    def is_over(self) -> bool:
        """Whether all of it was looked at."""
        return self._at >= len(self._body)

    def look_on(self) -> None:
        """Look at a slice."""
        end = min(self._at + SLICE, len(self._body))
        for _ in range(STEPS):
            if self._at >= end:
                break
            if self._in_string:
                self._look_at_string(end)
            else:
                self._look_at_structure(end)
        if self._weight > MAX_WEIGHT or self._escapes > MAX_ESCAPES:
            raise BadRequestError(
                f"The request's body is too complex: one of {len(self._body) >> 10} KB may have {MAX_WEIGHT:,} values "
                f"(an object or a list counts as {self._container}, a string, or a member's name, as {STRING} more) "
                f"and {MAX_ESCAPES:,} escapes in its strings",
                status=413,
                code="body_too_complex",
            )

    def _look_at_structure(self, end: int) -> None:
        body, at = self._body, self._at
        quote = body.find(_QUOTE, at, end)
        until = end if quote < 0 else quote
        containers = body.count(b"[", at, until) + body.count(b"{", at, until)
        self._in_string = quote >= 0
        self._weight += body.count(b",", at, until) + self._container * containers + STRING * self._in_string
        self._started, self._at = until, until + self._in_string

    def _look_at_string(self, end: int) -> None:
        body, at = self._body, self._at
        quote = body.find(_QUOTE, at, end)
        until = end if quote < 0 else quote
        if body.find(_BACKSLASH, at, until) < 0:  # nearly always
            self._at = until
            if quote >= 0:
                self._end_string()
            return
        until = _ESCAPED_TEXT.match(body, at, end).end()  # type: ignore[union-attr]  # it matches nothing too
        self._escapes += body.count(_BACKSLASH, at, until)
        if until < end and body.startswith(_QUOTE, until):
            self._at = until
            self._end_string()
        else:  # the slice ends in the string; a backslash at its very end takes the next character along
            is_split = body.startswith(_BACKSLASH, until)
            self._escapes += is_split
            self._at = until + 2 * is_split

    def _end_string(self) -> None:
        self._in_string = False
        self._at += 1  # behind its quote
        self._on_string(self._started, self._at)
