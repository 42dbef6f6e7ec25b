"""The key of a group: which model's requests it serves, and in which role. Names a group in labels and lines too."""

from __future__ import annotations

from typing import NamedTuple

from fd_router.instances.registration import Registration
from fd_router.instances.registration_keys import Role

ANY_MODEL = "*"
"""The model of a group that serves every request, whatever model it names."""


class GroupKey(NamedTuple):
    """What the instances of a group have in common."""

    model: str
    role: Role

    def __str__(self) -> str:
        """Give the role, and the model where there is more than one."""
        return self.role if self.model == ANY_MODEL else f"{self.role} {self.model}"


def group_keys(registration: Registration) -> tuple[GroupKey, ...]:
    """Return the keys of the groups that an instance belongs to.

    One, because the whole fleet serves the same model; an instance of several models will belong to several groups,
    which share its counts.
    """
    return (GroupKey(ANY_MODEL, registration.role),)
