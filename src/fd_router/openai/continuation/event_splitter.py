"""The splitter of server-sent events: a stream's content, in whatever pieces it comes, cut into whole events."""

from __future__ import annotations

import re

_END = re.compile(rb"\r?\n\r?\n|\r\r")
_LONGEST_END = len(b"\r\n\r\n")

_LINE_END = re.compile(rb"\r?\n|\r")

_BOM = b"\xef\xbb\xbf"  # a stream may begin with it

DONE = b"[DONE]"
"""The payload of the last event of OpenAI's streams."""


class EventSplitter:
    """Takes content (chunks' sizes taken out), and gives whole events, each with the blank line behind it.

    An event takes the time that its bytes do, in however many pieces it comes: each is looked at once.
    """

    __slots__ = ("pending",)

    def __init__(self) -> None:
        self.pending = bytearray()
        """The beginning of an event whose end is yet to come."""

    def feed(self, content: bytes) -> list[bytes]:
        """Take more content. Returns the events that are whole now."""
        pending, start = self.pending, 0
        looked = max(0, len(pending) - _LONGEST_END)
        pending += content
        events = []
        for end in [found.end() for found in _END.finditer(pending, looked)]:
            events.append(bytes(pending[start:end]))
            start = end
        del pending[:start]
        return events

    def __repr__(self) -> str:
        return f"<EventSplitter {len(self.pending)} bytes pending>"


def payload(event: bytes) -> bytes:
    """Return the data of an event, b"" if it has none: a comment, or an event of another kind."""
    event = event.removeprefix(_BOM)
    lines = [line[5:].lstrip(b" ") for line in _LINE_END.split(event) if line.startswith(b"data:")]
    return lines[0] if len(lines) == 1 else b"\n".join(lines)
