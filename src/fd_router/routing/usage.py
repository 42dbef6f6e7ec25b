"""What an engine tells of the prompt at the end of its answer, found without parsing the answer."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

PIECES = 4
"""Reads that are kept: the event with the usage, ``[DONE]`` and the last chunk may each come by themselves."""

TAIL = 8 * 1024
"""Bytes that are searched at most: the usage stands at the end."""

NEIGHBOURHOOD = 1024
"""Bytes before and behind ``cached_tokens`` in which ``prompt_tokens`` of the same object stands."""

# Within a string of JSON the quotes would be escaped, so what an answer talks about isn't taken for its usage.
_CACHED = re.compile(rb'"cached_tokens"\s*:\s*(\d{1,12})\b')
_PROMPT = re.compile(rb'"prompt_tokens"\s*:\s*(\d{1,12})\b')


def find_usage(tail: bytes) -> tuple[int, int] | None:
    """Return the last (prompt tokens, cached tokens) in the end of an answer, None when it doesn't tell them."""
    place = tail.rfind(b'"cached_tokens"')
    if place < 0:
        return None
    cached = _CACHED.match(tail, place)
    start = max(0, place - NEIGHBOURHOOD)
    prompts = _PROMPT.findall(tail, start, place) or _PROMPT.findall(tail, place, place + NEIGHBOURHOOD)
    if cached is None or not prompts:
        return None
    prompt = int(prompts[-1])
    return (prompt, min(int(cached[1]), prompt)) if prompt else None


class UsageTail:
    """Passes the bytes of an answer on, and keeps its last few reads."""

    __slots__ = ("_pieces", "_write")

    def __init__(self, first: bytes, write: Callable[[bytes], None]) -> None:
        self._pieces = deque((first,), PIECES)
        self._write = write

    def feed(self, data: bytes) -> None:
        """Take more of the answer."""
        self._pieces.append(data)
        self._write(data)

    def usage(self) -> tuple[int, int] | None:
        """Return (prompt tokens, cached tokens) if the answer, which has come to its end, tells them."""
        return find_usage(self.tail())

    def tail(self) -> bytes:
        """Return the end of what has come."""
        return b"".join(self._pieces)[-TAIL:]

    def __repr__(self) -> str:
        return f"<UsageTail {sum(map(len, self._pieces))} bytes kept>"
