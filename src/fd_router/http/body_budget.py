"""The body budget: how many bytes of requests may be held at once, by all clients together."""

from __future__ import annotations

from collections.abc import Callable

from fd_router.errors import SaturatedError

SMALL = 64 * 1024
"""Bytes up to which a body is refused last: nearly all requests are of this size, and it is never they who fill it."""

NEVER_REFUSED = 4 * 1024
"""Bytes up to which a body is never refused: an instance registers, an admin gives orders. Connections bound them."""

SHARE_OF_SMALL = 8
"""One in so many bytes of the budget is for small bodies alone."""

SHARE_OF_MEMORY = 4
"""The budget is one in so many bytes of the memory that the router may use, unless an option says how much it is."""

RETRY_AFTER_SECS = 1


class BodyBudget:
    """Counts the bytes of bodies from when they are received until their requests are answered.

    Each byte is taken once, by whoever received it, and given back once, with its request.
    """

    __slots__ = ("held", "largest", "limit", "on_refused")

    def __init__(self, limit: int = 1 << 62) -> None:
        self.held = 0
        self.on_refused: Callable[[], None] = _nobody
        """Who is told of each request for which there is no room."""
        self.limit: int
        self.set_limit(limit)

    def set_limit(self, limit: int) -> None:
        """Allow ``limit`` bytes from now on. What is held already goes on."""
        self.limit = limit
        self.largest = limit - limit // SHARE_OF_SMALL
        """The largest body that can be let in at all; as long as no more is held with it, any is."""

    def has_room(self, size: int, so_far: int = 0) -> bool:
        """Return whether there is room for a body of ``size`` bytes of which ``so_far`` are held."""
        most = self.limit if size <= SMALL else self.largest
        return size <= NEVER_REFUSED or self.held + size - so_far <= most

    def take(self, more: int, size: int) -> bool:
        """Take ``more`` bytes of a body that has ``size`` with them. Returns False, and takes none, without room."""
        held = self.held + more
        if held > (self.limit if size <= SMALL else self.largest) and size > NEVER_REFUSED:
            return False
        self.held = held
        return True

    def give_back(self, size: int) -> None:
        """Give back what was taken for a request, or a part of one."""
        self.held -= size

    def refusal(self) -> SaturatedError:
        """Tell of a request for which there is no room, and make its answer."""
        self.on_refused()
        error = SaturatedError(
            f"The router holds as many bytes of requests as it may ({self.limit >> 20} MB, proxy.body-budget-mb); "
            f"please try again in {RETRY_AFTER_SECS} s",
            code="body_budget",
        )
        error.headers = (("retry-after", str(RETRY_AFTER_SECS)),)
        return error

    def __repr__(self) -> str:
        return f"<BodyBudget {self.held} of {self.limit} B>"


def _nobody() -> None:
    """Nobody counts them."""


def effective_budget(configured_mb: int, memory: int) -> int:
    """Return the bytes that bodies may take together. ``configured_mb`` 0: a share of ``memory``, in bytes."""
    return configured_mb << 20 if configured_mb else memory // SHARE_OF_MEMORY
