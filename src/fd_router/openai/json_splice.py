"""JSON objects changed without being decoded and encoded again: what isn't touched stays byte for byte.

Numbers beyond 2^53, the order of keys, spacing and escapes are the client's; only whole members come and go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import NamedTuple

_SPACE = re.compile(r"[ \t\n\r]*")
_decoder = json.JSONDecoder()


class _Member(NamedTuple):
    """One member of an object: its name, and where it stands in the text."""

    name: str
    start: int
    end: int


def add_members(body: bytes, members: bytes) -> bytes:
    """Return the JSON object ``body`` with ``members`` (``"a":1,"b":2``) put first."""
    start = body.index(b"{") + 1
    rest = body[start:]
    comma = b"" if rest.lstrip()[:1] == b"}" else b","
    return b"".join((body[:start], members, comma, rest))


def drop_members(body: bytes, names: Collection[str]) -> bytes:
    """Return the JSON object ``body`` without the members called one of ``names``, however escaped or repeated.

    Raises ValueError when ``body`` isn't a JSON object in UTF-8.
    """
    text = body.decode("utf-8")
    kept, found = [], False
    for member in (members := _members(text)):
        if member.name in names:
            found = True
        else:
            kept.append(text[member.start : member.end])
    if not found:
        return body
    start, end = text.index("{") + 1, members[-1].end
    return (text[:start] + ",".join(kept) + text[end:]).encode("utf-8")


def _members(text: str) -> list[_Member]:
    """Find the members of the object that ``text`` holds; each reaches from comma to comma, spaces included."""
    at = _skip(text, text.index("{") + 1)
    members: list[_Member] = []
    if text[at : at + 1] == "}":
        return members
    start = text.index("{") + 1
    while True:
        if text[at : at + 1] != '"':
            raise ValueError(f"expected a member's name at character {at}")
        name, at = _decoder.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)  # over the colon
        _, at = _decoder.raw_decode(text, at)
        at = _skip(text, at)
        members.append(_Member(name, start, at))
        if text[at : at + 1] != ",":
            return members
        start = at + 1
        at = _skip(text, start)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match is not None else at
