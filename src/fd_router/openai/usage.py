"""The usage that an engine tells at the end of its answer, found without parsing the answer."""

from __future__ import annotations

import re
from collections.abc import Callable

NEIGHBOURHOOD = 1024
"""Bytes before and behind ``cached_tokens`` in which ``prompt_tokens`` of the same object stands."""

# Within a string of JSON the quotes would be escaped, so what an answer talks about isn't taken for its usage.
_CACHED = re.compile(rb'"cached_tokens"\s*:\s*(\d{1,12})\b')
_PROMPT = re.compile(rb'"prompt_tokens"\s*:\s*(\d{1,12})\b')
_TOTAL = re.compile(rb'"total_tokens"\s*:\s*([0-9]{1,9})')

FindUsage = Callable[[bytes], tuple[int, int] | None]
"""(the end of an answer) → (prompt tokens, cached tokens), None when it doesn't tell both."""

FindTotal = Callable[[bytes], int | None]
"""(the end of an answer) → tokens of prompt and answer, None when it doesn't tell."""


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


def find_total_tokens(tail: bytes) -> int | None:
    """Return the last ``total_tokens`` in the end of an answer, None when there is none."""
    told = _TOTAL.findall(tail)
    return int(told[-1]) if told else None
