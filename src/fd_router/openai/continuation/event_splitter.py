"""The splitter of server-sent events: a stream's content, in whatever pieces it comes, cut into whole events."""

from __future__ import annotations

import re

_END = re.compile(rb"\r?\n\r?\n|\r\r")

_LINE_END = re.compile(rb"\r?\n|\r")

_BOM = b"\xef\xbb\xbf"  # a stream may begin with it

DONE = b"[DONE]"
"""The payload of the last event of OpenAI's streams."""


class EventSplitter:
    """Takes content (chunks' sizes taken out), and gives whole events, each with the blank line behind it."""

    __slots__ = ("pending",)

    def __init__(self) -> None:
        self.pending = b""
        """The beginning of an event whose end is yet to come."""

    def feed(self, content: bytes) -> list[bytes]:
        """Take more content. Returns the events that are whole now."""
        text = self.pending + content if self.pending else content
        events, start = [], 0
        for end in _END.finditer(text):
            events.append(text[start : end.end()])
            start = end.end()
        self.pending = text[start:]
        return events

    def __repr__(self) -> str:
        return f"<EventSplitter {len(self.pending)} bytes pending>"


def payload(event: bytes) -> bytes:
    """Return the data of an event, b"" if it has none: a comment, or an event of another kind."""
    event = event.removeprefix(_BOM)
    lines = [line[5:].lstrip(b" ") for line in _LINE_END.split(event) if line.startswith(b"data:")]
    return lines[0] if len(lines) == 1 else b"\n".join(lines)
