"""The key of a group: which model's requests it serves, and in which role. Names a group in labels and lines too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fd_router.engines.model_cards import ModelCard
from fd_router.instances.registration_keys import Role

ANY_MODEL = "*"
"""The model of a group that serves every request, whatever model it names: that of all instances, as long as they don't
serve different models, and then of those of which it isn't known what they serve."""


class GroupKey(NamedTuple):
    """What the instances of a group have in common."""

    model: str
    role: Role

    def __str__(self) -> str:
        """Give the role, and the model where there is more than one."""
        return self.role if self.model == ANY_MODEL else f"{self.role} {self.model}"


def group_keys(role: Role, models: Iterable[ModelCard], *, are_several: bool) -> tuple[GroupKey, ...]:
    """Return the keys of the groups that an instance of ``role`` belongs to, which share its counts.

    One for each of its ``models`` where the fleet serves several (``are_several``), else the one of any model.
    """
    names = [card.name for card in models] if are_several else []
    return tuple(GroupKey(name, role) for name in names or (ANY_MODEL,))
