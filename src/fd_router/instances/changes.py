"""The changes of membership and health that the registry tells its listeners."""

from __future__ import annotations

from enum import Enum

import msgspec

from fd_router.instances.instance import Instance


class ChangeKind(Enum):
    """What happened to an instance's membership."""

    ADDED = "added"  # it is a member now, whatever its health
    FIRST_UP = "first up"  # healthy for the first time as a member
    UP = "up"  # healthy again
    NOT_UP = "not up"  # one from a list failed its first probe; told once
    SUSPECT = "suspect"  # a connection failed while serving: probe it now
    DOWN = "down"  # unhealthy
    DEAD = "dead"  # and it is certain that it answers nothing of what it has: told once
    LIMIT = "limit"  # it registered again and takes another number of requests at once
    ROLE = "role"  # it registered again in another role
    ACCESS = "access"  # it registered again and is spoken to in another way
    MODELS = "models"  # it serves other models
    PAUSED = "paused"  # it takes no new requests, by its own word
    RESUMED = "resumed"
    DRAINING = "draining"  # it takes no new requests, by an admin's word
    UNDRAINED = "undrained"
    READY = "ready"  # it may be given requests again, by its source's word
    UNREADY = "unready"  # it may not, unless nobody else is left
    TERMINATING = "terminating"  # it takes no new requests, and ends when what it has is over
    CIRCUIT_OPEN = "circuit open"  # too many of its requests failed: it gets none for a while
    CIRCUIT_HALF_OPEN = "circuit half-open"  # one request on trial
    CIRCUIT_CLOSED = "circuit closed"
    REMOVED = "removed"  # no member any more


class Change(msgspec.Struct, frozen=True):
    """One change, told after it was made. ``index`` is the position in register.yaml, else None."""

    kind: ChangeKind
    instance: Instance
    detail: str = ""  # why, in a few words
    index: int | None = None

    @property
    def role(self) -> str:
        """The instance's role after the change."""
        return self.instance.registration.role
