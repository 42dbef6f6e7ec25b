"""Large prompts, of which the beginning is read: it tells who has it in its cache; of the rest the length counts.

To decode tens of MB of text would hold the loop for longer than a client of another request should wait.
"""

from __future__ import annotations

import re

import msgspec

from fd_router.openai.request_fields import Message, Part, Prompt, RequestFields

READ_IN_PART = 8 * 1024 * 1024
"""Bytes of a body from which on its text is read in part."""

READ = 4 * 1024 * 1024
"""Bytes of text that are read then. The prefix index looks at no more."""

_LONGEST_ESCAPE = 12
"""Bytes of a character outside the basic plane, as two escapes."""

_SEARCHED = 16 * 1024
"""Bytes in which a place is looked for where a text can be cut."""

_QUOTE, _LIST, _NULL, _UNICODE, _BACKSLASH = b'"[nu\\'

_LOW_SURROGATE = re.compile(rb"[dD][c-fC-F]|$")
"""The second of two escapes that are one character, or one whose digits aren't in sight."""

_CONTINUES = range(0x80, 0xC0)
"""Bytes in the middle of a character in UTF-8."""

_raw = msgspec.Raw()


class _RawPart(msgspec.Struct, gc=False):
    type: str = ""
    text: msgspec.Raw = _raw


class _RawMessage(msgspec.Struct, gc=False):
    content: msgspec.Raw = _raw


class _RawFields(RequestFields, gc=False):
    messages: list[_RawMessage] | None = None  # type: ignore[assignment]  # the decoder's business
    prompt: msgspec.Raw = _raw  # type: ignore[assignment]


class _PartlyRead(RequestFields, gc=False):
    unread: int = 0  # type: ignore[misc]  # of each one its own


_decode = msgspec.json.Decoder(_RawFields).decode
_decode_prompt = msgspec.json.Decoder(Prompt).decode
_decode_parts = msgspec.json.Decoder(list[_RawPart]).decode
_decode_text = msgspec.json.Decoder(str).decode

_COPIED = tuple(name for name in RequestFields.__struct_fields__ if name not in {"messages", "prompt"})


def read_in_part(body: bytes) -> RequestFields:
    """Return the fields of a large body, with the beginning of its prompt. Raises as msgspec's decoder does."""
    raw, reader = _decode(body), _Reader()
    fields = _PartlyRead(**{name: getattr(raw, name) for name in _COPIED})
    if raw.messages is not None:
        fields.messages = [Message(reader.content(message.content)) for message in raw.messages]
    elif (prompt := memoryview(raw.prompt)).nbytes:
        fields.prompt = reader.text(prompt) if prompt[0] == _QUOTE else _decode_prompt(prompt)
    fields.unread = reader.unread
    return fields


class _Reader:
    """Reads texts as long as there are not too many bytes of them, and guesses how many characters the others have."""

    __slots__ = ("_left", "_per_byte", "unread")

    def __init__(self) -> None:
        self._left = READ
        self._per_byte = 1.0  # characters
        self.unread = 0

    def content(self, raw: msgspec.Raw) -> str | list[Part] | None:
        view = memoryview(raw)
        first = view[0] if view.nbytes else _NULL
        if first == _LIST:
            return [Part(part.type, self.text(memoryview(part.text))) for part in _decode_parts(view)]
        return self.text(view) if first != _NULL else None

    def text(self, view: memoryview) -> str:
        """Decode a string, or its beginning; an absent one is empty."""
        if not view.nbytes:
            return ""
        cut = view.nbytes if view.nbytes <= self._left else place_to_cut(view, self._left)
        if cut == 0:
            self.unread += int((view.nbytes - 2) * self._per_byte)
            return ""
        text = _decode_text(view if cut == view.nbytes else bytes(view[:cut]) + b'"')
        self._per_byte = len(text) / cut
        self.unread += int((view.nbytes - cut) * self._per_byte)
        self._left = max(0, self._left - cut)
        return text


def place_to_cut(view: memoryview, most: int) -> int:
    """Return where a string can be cut, at ``most`` bytes or somewhat before: between characters, in no escape.

    0: nothing is to be read of it, its end: there is no such place, as in a text of nothing but escapes.
    """
    if most <= _SEARCHED:
        return 0
    start = most - _SEARCHED
    found = bytes(view[start : most + 1])
    at = len(found) - 1
    while at > _LONGEST_ESCAPE:
        escape = found.rfind(b"\\", at - _LONGEST_ESCAPE, at)
        if escape < 0:
            if found[at] not in _CONTINUES:
                return start + at
            at -= 1
            continue
        run = escape  # where the backslashes before it begin: they go in pairs
        while run and found[run - 1] == _BACKSLASH:
            run -= 1
        is_odd = (escape + 1 - run) % 2  # then the last of them begins an escape
        behind = escape + 1 + is_odd
        if run and behind <= at and found[behind - 1] != _UNICODE and found[behind] not in _CONTINUES:
            return start + behind
        if run and is_odd and found[behind - 1] == _UNICODE and not _LOW_SURROGATE.match(found, behind):
            return start + escape
        at = run
    return view.nbytes
