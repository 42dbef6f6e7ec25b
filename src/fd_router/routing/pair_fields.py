"""The pair that served a request, or failed it, as header fields tell it."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from fd_router.telemetry.record import RequestRecord

PAIRS_KEPT: Final = 1024
"""Pairs whose lines are written once for many requests."""


def pair_fields(record: RequestRecord) -> tuple[tuple[str, str], ...]:
    """Return the header fields that name the pair."""
    fields = (("X-Router-Prefill-URL", record.prefill), ("X-Router-Decode-URL", record.decode))
    return fields if record.prefill else fields[1:]


@lru_cache(maxsize=PAIRS_KEPT)
def pair_lines(prefill: str, decode: str) -> bytes:
    """Return them as lines of a head, for the URLs of the two; ``prefill`` is "" where decode is alone."""
    first = f"X-Router-Prefill-URL: {prefill}\r\n" if prefill else ""
    return f"{first}X-Router-Decode-URL: {decode}\r\n".encode()
