"""The usage that an engine tells in its answer, found without parsing the answer."""

from __future__ import annotations

import re
from collections.abc import Callable

NEIGHBOURHOOD = 1024
"""Bytes before and behind the cached tokens in which the prompt's tokens of the same object stand."""

# Within a string of JSON the quotes would be escaped, so what an answer talks about isn't taken for its usage.
_TOTAL = re.compile(rb'"total_tokens"\s*:\s*([0-9]{1,9})')

FindUsage = Callable[[bytes], tuple[int, int] | None]
"""(the end of an answer) → (prompt tokens, cached tokens), None when it doesn't tell both."""

FindTotal = Callable[[bytes], int | None]
"""(the end of an answer) → tokens of prompt and answer, None when it doesn't tell."""


def usage_finder(prompt_name: str, cached_name: str) -> FindUsage:
    """Make what finds the last (prompt tokens, cached tokens) in the end of an answer, by their names there."""
    marker = b'"%b"' % cached_name.encode()
    cached_number = re.compile(rb'"%b"\s*:\s*(\d{1,12})\b' % cached_name.encode())
    prompt_number = re.compile(rb'"%b"\s*:\s*(\d{1,12})\b' % prompt_name.encode())

    def find(tail: bytes) -> tuple[int, int] | None:
        place = tail.rfind(marker)
        if place < 0:
            return None
        cached = cached_number.match(tail, place)
        start = max(0, place - NEIGHBOURHOOD)
        prompts = prompt_number.findall(tail, start, place) or prompt_number.findall(tail, place, place + NEIGHBOURHOOD)
        if cached is None or not prompts:
            return None
        prompt = int(prompts[-1])
        return (prompt, min(int(cached[1]), prompt)) if prompt else None

    return find


find_usage = usage_finder("prompt_tokens", "cached_tokens")
"""That of OpenAI's completions."""


def find_total_tokens(tail: bytes) -> int | None:
    """Return the last ``total_tokens`` in the end of an answer, None when there is none."""
    told = _TOTAL.findall(tail)
    return int(told[-1]) if told else None
