"""Doubt: what speaks against an instance that isn't healthy, and how far it may be tried all the same."""

from __future__ import annotations

from enum import IntEnum
from types import MappingProxyType
from typing import Final


class Doubt(IntEnum):
    """What was found last, the less grave the lower."""

    NONE = 0  # nothing, or nobody has asked it yet
    BROKEN = 1  # a connection to it broke
    LATE = 2  # it accepted a probe and didn't answer it in time, as engines do that are busy
    DEAF = 3  # it didn't accept a connection in time
    SICK = 4  # it says itself that it isn't healthy, or what it says makes no sense
    GONE = 5  # nobody listens there, or no way leads there

    @property
    def is_timeout(self) -> bool:
        """Whether it says no more than that time passed."""
        return self is Doubt.LATE or self is Doubt.DEAF

    @property
    def leaves_hope(self) -> bool:
        """Whether the instance may serve all the same."""
        return self is not Doubt.NONE and self <= Doubt.DEAF


_BY_REASON: Final = MappingProxyType({
    "reset": Doubt.BROKEN,
    "cut_off": Doubt.BROKEN,
    "dead": Doubt.BROKEN,  # what more there is to know of it, its probes have told
    "first_byte_timeout": Doubt.LATE,
    "stalled": Doubt.LATE,
    "connect_timeout": Doubt.DEAF,
    "refused": Doubt.GONE,
    "unreachable": Doubt.GONE,
})  # fmt: skip


def doubt_of(reason: str) -> Doubt:
    """Tell what a connection or a probe that failed for ``reason`` (of an ``UpstreamError``) says."""
    return _BY_REASON.get(reason, Doubt.SICK)
