"""How many clients may be connected, and who goes when there are more."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Protocol

from fd_router.errors import SaturatedError

RESERVED_FOR_ADMIN = 64
"""Connections beyond the limit that are taken for the router's own endpoints: a health check must not fail then."""

LOOKS = 64
"""Connections that are looked at, at most, to find one that can go."""

RETRY_AFTER_SECS = 1


class Evictable(Protocol):
    """A client's connection."""

    @property
    def is_unproven(self) -> bool:
        """Whether it has brought no whole request yet, or is in the middle of one."""

    def evict(self) -> bool:
        """Close, unless a request is being answered or waits for its answer. Returns whether it does."""


class ConnectionLimiter:
    """Keeps the number of connections below ``limit``.

    A connection on which nothing is being answered makes room for a new one: first unproven ones, which have
    brought no whole request yet or send one slowly, then idle ones. They are looked at in turn, so that a new one isn't
    the next to go.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._turn: Iterator[Evictable] = iter(())

    def make_room(self, guests: Collection[Evictable]) -> bool:
        """Let one of ``guests`` go. Returns False when all that were looked at are being served."""
        known: list[Evictable] = []
        for _ in range(LOOKS):
            guest = next(self._turn, None)
            if guest is None:
                self._turn = iter(tuple(guests))
            elif not guest.is_unproven:
                known.append(guest)
            elif guest.evict():
                return True
        return any(guest.evict() for guest in known)

    def refusal(self) -> SaturatedError:
        """Make the answer to a request for which there is no place."""
        error = SaturatedError(f"The router has as many connections as it may have ({self.limit}); try again")
        error.code = "too_many_connections"
        error.headers = (("retry-after", str(RETRY_AFTER_SECS)),)
        return error

    def __repr__(self) -> str:
        return f"<ConnectionLimiter limit={self.limit}>"


def effective_connection_limit(configured: int, open_files: int) -> int:
    """Return how many clients may be connected, with a limit of ``open_files``.

    By default (0) three quarters of that: the others are for instances, since a request takes one at each side.
    """
    if configured:
        return configured
    return max(RESERVED_FOR_ADMIN, open_files // 4 * 3 - 2 * RESERVED_FOR_ADMIN)
