"""The trace context of a request: what its client says of it, what is decided, and what an instance is told.

W3C Trace Context, level 1: ``00-<32 digits: trace>-<16 digits: parent>-<2 digits: flags>``.
"""

from __future__ import annotations

import random
import re
from typing import Final

import msgspec

_TRACEPARENT: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_SAMPLED: Final = 0x01


class TraceContext(msgspec.Struct, frozen=True):
    """A request that is traced: its trace, its own span, and the span of its client that it belongs to (0: none)."""

    trace_id: int
    span_id: int
    parent_id: int = 0

    @property
    def traceparent(self) -> bytes:
        """What an instance is told: it belongs to the request's span."""
        return b"00-%032x-%016x-01" % (self.trace_id, self.span_id)


class Sampler:
    """Decides which requests are traced: as their client says, and of those that say nothing a share."""

    __slots__ = ("_random", "_share")

    def __init__(self, share: float, rng: random.Random) -> None:
        """``share``: from 0 to 1."""
        self._share = share
        self._random = rng

    def begin(self, traceparent: bytes) -> TraceContext | None:
        """Return the context of a request whose client sent ``traceparent`` (b"": none); None: it isn't traced.

        What can't be read counts as nothing (section 4.3 there).
        """
        rng = self._random
        found = _TRACEPARENT.fullmatch(traceparent)
        trace_id, parent_id = (int(found[1], 16), int(found[2], 16)) if found is not None else (0, 0)
        if found is not None and trace_id and parent_id:
            is_sampled = bool(int(found[3], 16) & _SAMPLED)
            return TraceContext(trace_id, _some_bits(rng, 64), parent_id) if is_sampled else None
        if rng.random() >= self._share:
            return None
        return TraceContext(_some_bits(rng, 128), _some_bits(rng, 64))


def _some_bits(rng: random.Random, number: int) -> int:
    return rng.getrandbits(number) or 1  # zero would be no id
