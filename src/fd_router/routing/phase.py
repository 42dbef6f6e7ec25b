"""The phases of a routed request, and the table of the moves between them. No clock, no I/O."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from fd_router.errors import FdRouterError


class Phase(IntEnum):
    """How far a request has come. Whole numbers, so that a move is looked up by index."""

    PREPARING = 0  # it is read, perhaps tokenized; nothing is chosen yet
    QUEUED = 1  # it waits in the request queue until an instance has room
    HELD = 2  # its instance is chosen, whose policy sends it later
    CONNECTING = 3  # a connection to an instance of it is being opened
    AWAITING = 4  # it is sent; no byte has gone to the client
    STREAMING = 5  # the client has the answer's head: no other attempt can be made
    ENDED = 6  # all that was taken is given back


PREPARING, QUEUED, HELD, CONNECTING, AWAITING, STREAMING, ENDED = Phase
"""The same as plain names: an enum's attribute takes ten times as long to look up, several times a request."""

AT_AN_INSTANCE = frozenset({CONNECTING, AWAITING, STREAMING})
"""The phases in which an instance may be at work on it."""

UNANSWERED = frozenset({CONNECTING, AWAITING})
"""Those of them in which the client has nothing of an answer."""

_BY_ATTEMPT = frozenset({HELD, CONNECTING, AWAITING})
"""Where a selection leads. Straight to AWAITING when a connection is kept."""

MOVES: Final[tuple[frozenset[Phase], ...]] = (
    _BY_ATTEMPT | {QUEUED, ENDED},  # from PREPARING
    _BY_ATTEMPT | {ENDED},  # from QUEUED
    _BY_ATTEMPT | {QUEUED, ENDED},  # from HELD: its instance can't have it any more
    _BY_ATTEMPT | {QUEUED, STREAMING, ENDED},  # from CONNECTING: one of a pair may answer while the other is reached
    _BY_ATTEMPT | {QUEUED, STREAMING, ENDED},  # from AWAITING: it failed, or gave the request back
    frozenset({ENDED}),  # from STREAMING
    frozenset(),  # from ENDED
)
"""By phase: those that may be next."""


class PhaseError(FdRouterError):
    """A bug: a request was to make a move that the table doesn't have."""

    def __init__(self, phase: Phase, to: Phase) -> None:
        super().__init__(f"A request can't go from {phase.name} to {to.name}. This is a bug; please report it")
