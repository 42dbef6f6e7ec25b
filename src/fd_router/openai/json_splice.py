"""JSON objects changed without being decoded and encoded again: what isn't touched stays byte for byte.

Numbers beyond 2^53, the order of keys, spacing and escapes are the client's; only whole members come and go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from fd_router.openai.addresses import address_of
from fd_router.spliced_body import Body, Change, SplicedBody, base_of, changed, changes_of

_SPACE = re.compile(r"[ \t\n\r]*")
_SPACES = re.compile(rb"[ \t\n\r]*")
_HEAD = re.compile(rb'[ \t\n\r]*("(?:[^"\\]|\\.)*")[ \t\n\r]*:[ \t\n\r]*', re.DOTALL)
_FIRST = re.compile(rb"[^ \t\n\r]")
_COMMA, _BRACE = b",}"

_COMPARED = 256
"""Bytes of a value that are compared; where a longer one is, its address tells."""

MAX_MEMBERS = 1000
"""Members of an object that one is put into or taken from. Requests have some ten."""

WALKED = 2 * 1024 * 1024
"""Bytes of an object that is read in the slow way, if need be, to find its members."""

Places = Sequence[tuple[int, int]]
"""From where to where, in order."""

_decoder = json.JSONDecoder()
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Member(NamedTuple):
    """One member of an object: its name, and where it stands in the text."""

    name: str
    start: int
    end: int


def add_members(body: Body, members: bytes) -> Body:
    """Return the JSON object ``body`` with ``members`` (``"a":1,"b":2``) put first."""
    start, comma = place_of_members(body)
    return changed(body, ((start, start, members + comma),))


def place_of_members(body: Body) -> tuple[int, bytes]:
    """Return where members are to be put first in the JSON object ``body``, and what is to stand behind them there.

    The place is one in its base.
    """
    if isinstance(body, bytes) and body[:2] == b'{"':  # nearly always: a member is first
        return 1, b","
    base = base_of(body)
    at = start = base.index(b"{") + 1
    for begins, ends, piece in changes_of(body):
        if _FIRST.search(base, at, begins) or _FIRST.search(piece):
            return start, b","  # what was put in is a member, or before one
        at = ends
    first = _FIRST.search(base, at)
    return start, b"" if first is not None and first[0] == b"}" else b","


def set_member(body: bytes, name: str, value: bytes) -> Body:
    """Return the JSON object ``body`` with ``value`` (JSON) as its member ``name``, in the place of the one it has.

    Raises ValueError when ``body`` isn't a JSON object in UTF-8.
    """
    members, added = _plain_members(body), b'"%b":%b' % (name.encode("utf-8"), value)
    if members is None:
        return add_members(drop_members(body, (name,)), added)
    if name not in members:
        return add_members(body, added)
    place = _place_of(body, members, name)
    if place is not None:  # as JSON libraries write it by default
        return changed(body, ((*place, value),))
    if len(body) > WALKED:
        return add_members(changed(body, _spaced(body, members, (name,))), added)
    return add_members(_drop_any(body, (name,)), added)


def _place_of(body: bytes, members: Mapping[str, msgspec.Raw], wanted: str) -> tuple[int, int] | None:
    """Return from where to where the value of a member reaches, if ``body`` is ``members`` in a usual spacing."""
    first = next(iter(members)).encode("utf-8")
    space = b" " if body.startswith(b" ", len(first) + 4) else b""
    lead, more, colon = b'{"', b"," + space + b'"', b'":' + space
    at, place = 0, None
    for name, value in members.items():
        head = lead + name.encode("utf-8") + colon
        start = at + len(head)
        if "\\" in name or not (body.startswith(head, at) and _stands(value, body, start)):
            return None
        at, lead = start + memoryview(value).nbytes, more
        if body[at : at + 1] not in (b",", b"}"):  # it is another value that only begins so
            return None
        if name == wanted:
            place = start, at
    return place if body[at : at + 1] == b"}" else None


def _stands(value: msgspec.Raw, body: bytes, start: int) -> bool:
    """Tell whether ``value``, which is a part of ``body``, begins at ``start``; its first bytes tell."""
    view = memoryview(value)
    if view.nbytes <= _COMPARED:
        return body.startswith(view, start)
    return address_of(view) == address_of(body) + start


def drop_members(body: Body, names: Collection[str]) -> Body:
    """Return the JSON object ``body`` without the members called one of ``names``, however escaped or repeated.

    What was put into a spliced one stays. Raises ValueError when ``body`` isn't a JSON object in UTF-8.
    """
    if not isinstance(body, bytes):
        return _drop_more(body, names)
    members = _plain_members(body)
    if (cuts := _plain(body, members, names)) is None:
        if len(body) <= WALKED:
            return _drop_any(body, names)
        cuts = _spaced(body, members, names)
    return changed(body, cuts) if cuts else body


def _drop_more(body: SplicedBody, names: Collection[str]) -> Body:
    """Do it for what was spliced already."""
    base, gone = body.base, [(start, end) for start, end, piece in body.changes if not piece]
    members = _plain_members(base)
    if (cuts := _plain(base, members, names, gone)) is None:
        if len(base) <= WALKED:
            return _drop_any(bytes(body), names)
        cuts = _spaced(base, members, names, gone)
    if cuts and cuts[0][0] == base.index(b"{") + 1 and base.startswith(b"}", cuts[0][1]):
        return drop_members(bytes(body), names)  # only what was put in is left, and a comma
    return changed(body, cuts)


def _plain(
    body: bytes, members: Mapping[str, msgspec.Raw] | None, names: Collection[str], gone: Places = ()
) -> Sequence[Change] | None:
    """Find what to cut in an object as JSON libraries write it by default; None for what is written in another way.

    msgspec finds the members in a fraction of the time, and its ``Raw`` values are the bytes as they came. But a name
    that stands there twice it tells once, and escapes in names it undoes. So the body must be just what it told.
    """
    if members is None:
        return None
    if not any(name in members for name in names):
        return [(start, end, b"") for start, end in gone]
    return _without(body, members, names, gone)


def _plain_members(body: bytes) -> Mapping[str, msgspec.Raw] | None:
    """Return the members of an object in UTF-8, None for what isn't one, or breaks JSON's rules. Raises ValueError."""
    try:
        members = _decode(body)
        if len(body) <= WALKED and not body.isascii():
            body.decode("utf-8")  # msgspec doesn't look at the encoding of what it skips
    except (ValueError, RecursionError):  # what it doesn't take (NaN, a lone surrogate, …) the standard library may
        return None
    if len(members) > MAX_MEMBERS:
        raise _too_many()
    return members


def _too_many() -> ValueError:
    return ValueError(f"the object has more than {MAX_MEMBERS} members")


def _without(
    body: bytes, members: Mapping[str, msgspec.Raw], names: Collection[str], gone: Places
) -> Sequence[Change] | None:
    """Say what to cut, if ``body`` is ``members``, one after the other, in one of the two usual spacings."""
    first = next(iter(members)).encode("utf-8")
    space = b" " if body.startswith(b" ", len(first) + 4) else b""
    lead, more, colon = b'{"', space + b'"', b'":' + space
    at, left = 0, len(members)  # where the next member begins (the first with its brace)
    cuts = _Cuts(names, 1, gone)
    for name, value in members.items():
        left -= 1
        head = lead + name.encode("utf-8") + colon
        end = at + len(head) + memoryview(value).nbytes
        if "\\" in name or not (body.startswith(head, at) and _stands(value, body, at + len(head))):
            return None
        if body[end] != (_COMMA if left else _BRACE):  # it is another value that only begins so, or a member too many
            return None
        cuts.member(name, at or 1)
        at, lead = end + 1, more
    return cuts.end(at - 1)


class _Cuts:
    """Goes over the members of an object in their order, and finds what to cut so that ``names`` are gone."""

    __slots__ = ("_begun", "_cuts", "_gone", "_names", "_start")

    def __init__(self, names: Collection[str], start: int, gone: Places) -> None:
        """``start``: where the first member begins, just behind the brace. ``gone``: what was cut before."""
        self._names, self._start, self._gone = names, start, gone
        self._begun = -1  # where a run of members begins that go
        self._cuts: list[Change] = []

    def member(self, name: str, start: int) -> None:
        """Take the next member, which begins at ``start``, behind the comma before it."""
        if name in self._names or any(begins <= start < ends for begins, ends in self._gone):
            if self._begun < 0:
                self._begun = start
        elif self._begun >= 0:
            self._cuts.append((self._begun, start, b""))
            self._begun = -1

    def end(self, end: int) -> Sequence[Change]:
        """Return what to cut; the last member ends at ``end``. When it goes, so does the comma before it."""
        if self._begun >= 0:
            self._cuts.append((self._begun - (self._begun > self._start), end, b""))
        return self._cuts


def _drop_any(body: bytes, names: Collection[str]) -> bytes:
    """Do it for whatever the standard library's decoder reads."""
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


def _spaced(
    body: bytes, members: Mapping[str, msgspec.Raw] | None, names: Collection[str], gone: Places = ()
) -> Sequence[Change]:
    """Find what to cut in any spacing, of an object that msgspec takes. Raises ValueError for another."""
    if members is None:
        raise ValueError(f"beyond {WALKED >> 20} MB it must keep to RFC 8259")
    base, start = address_of(body), body.index(b"{") + 1
    at = end = start
    cuts = _Cuts(names, start, gone)
    for value in members.values():
        view = memoryview(value)
        begins = address_of(view) - base if view.nbytes else -1
        head = _HEAD.fullmatch(body, at, begins) if begins > at else None
        end = _SPACES.match(body, begins + view.nbytes).end()  # type: ignore[union-attr]  # it matches nothing too
        if head is None:
            raise ValueError("a member stands there twice")
        cuts.member(json.loads(head[1]), at)
        at = end + 1
    if body[end : end + 1] != b"}" and members:
        raise ValueError("a member stands there twice")
    return cuts.end(end)


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
        if len(members) > MAX_MEMBERS:
            raise _too_many()
        if text[at : at + 1] != ",":
            return members
        start = at + 1
        at = _skip(text, start)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match is not None else at
