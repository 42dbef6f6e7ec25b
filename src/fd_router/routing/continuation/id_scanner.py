"""The scanner of token ids: takes members with ids out of JSON that comes in any pieces, however long they are."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

_OPENS: Final = re.compile(rb'(,\s*)?"(?:prompt_|completion_)?token_ids"\s*:\s*(?:(\[)|null)')
"""The beginning of such a member, or all of one. In a text, quotes are escaped."""

_MAY_OPEN: Final = re.compile(rb'(?:,\s*)?(?:"(?:[a-z_]{0,20}(?:"\s*(?::\s*n?u?l?)?)?)?)?\Z')
"""What of the end may be the beginning of one; nothing, if nothing else."""

_NEAR_END: Final = 256
"""Bytes in which that is: more only with more white space than anybody writes."""

_SPACE: Final = re.compile(rb"\s*")


class _At(Enum):
    ANYTHING = auto()
    LIST = auto()  # of ids
    FIRST_LIST = auto()  # of a member with none before it, …
    FIRST_END = auto()  # … behind which a comma may come that is to go too …
    COMMA = auto()  # … and white space


class IdScanner:
    """Takes content in any pieces. It holds back what may be the beginning of a member with ids, at most 256 bytes."""

    __slots__ = ("_at", "_held")

    def __init__(self) -> None:
        self._at = _At.ANYTHING
        self._held = b""

    def feed(self, content: bytes) -> bytes:
        """Take more. Returns what of it may be shown by now."""
        text, self._held = self._held + content, b""
        shown: list[bytes] = []
        place = 0
        while place < len(text):
            place = self._step(text, place, shown)
        return b"".join(shown)

    def end(self) -> bytes:
        """Nothing more comes. Returns what was held back."""
        held, self._held = self._held, b""
        return held

    def _step(self, text: bytes, place: int, shown: list[bytes]) -> int:
        """Go on from ``place``. Returns up to where that went."""
        if self._at is _At.ANYTHING:
            return self._show(text, place, shown)
        if self._at in (_At.LIST, _At.FIRST_LIST):
            end = text.find(b"]", place)
            if end < 0:
                return len(text)
            self._at = _At.ANYTHING if self._at is _At.LIST else _At.FIRST_END
            return end + 1
        space = _SPACE.match(text, place)
        end = space.end() if space is not None else place
        if self._at is _At.COMMA:
            self._at = _At.COMMA if end == len(text) else _At.ANYTHING
            return end
        if end == len(text):
            self._held = text[place:]
            return end
        self._at = _At.COMMA if text[end : end + 1] == b"," else _At.ANYTHING
        return end + 1 if self._at is _At.COMMA else place

    def _show(self, text: bytes, place: int, shown: list[bytes]) -> int:
        """Show what comes before the next member with ids."""
        if (opens := _OPENS.search(text, place)) is None:
            may_open = _MAY_OPEN.search(text, max(place, len(text) - _NEAR_END))
            end = may_open.start() if may_open is not None else len(text)
            shown.append(text[place:end])
            self._held = text[end:]
            return len(text)
        shown.append(text[place : opens.start()])
        is_first, is_list = opens[1] is None, opens[2] is not None
        if is_list:
            self._at = _At.FIRST_LIST if is_first else _At.LIST
        elif is_first:
            self._at = _At.FIRST_END
        return opens.end()

    def __repr__(self) -> str:
        return f"<IdScanner {self._at.name} {len(self._held)} bytes held>"
