"""Findings: what the doctor says of one thing, and the mend."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum

import msgspec


class Level(Enum):
    """How bad it is."""

    GOOD = "ok"
    ODD = "warning"  # it works, perhaps not as meant
    BAD = "error"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    level: Level
    what: str
    mend: str = ""


Check = Callable[[], Iterable[Finding]]
"""Looks at something."""


def good(what: str) -> Finding:
    """Make a finding that needs no mend."""
    return Finding(Level.GOOD, what)


def odd(what: str, mend: str) -> Finding:
    """Make a finding that should be looked at."""
    return Finding(Level.ODD, what, mend)


def bad(what: str, mend: str) -> Finding:
    """Make a finding that has to be mended."""
    return Finding(Level.BAD, what, mend)
