"""The grouping of the fleet: its groups, which of them each member belongs to, and what the members serve."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Iterable
from operator import attrgetter

from fd_router.engines.model_cards import ModelCard, told_cards
from fd_router.instances.group_key import ANY_MODEL, GroupKey, group_keys
from fd_router.instances.groups import Group
from fd_router.instances.instance import Instance
from fd_router.instances.model_sets import ModelSets, ServedModels
from fd_router.instances.registration_keys import Role

_MAX_LEARNT = 1024
"""Instances that aren't members yet of which it is remembered what they serve: whoever asks to register is probed."""


class Grouping:
    """Puts members into the groups of their role, and of each of their models as soon as these differ."""

    def __init__(self, min_share: Callable[[], float]) -> None:
        """``min_share``: see ``Group``."""
        self._min_share = min_share
        self._groups: dict[GroupKey, Group] = {}
        self._alone: dict[GroupKey, tuple[Group, ...]] = {}  # of members of one group: an object for all of them
        self._members: dict[str, Instance] = {}  # by key
        self._ordered: tuple[Instance, ...] | None = None
        self._models = ModelSets()
        self._are_several = False  # what the members were grouped by
        self._learnt: OrderedDict[str, tuple[ModelCard, ...]] = OrderedDict()  # of those that aren't members yet

    @property
    def served(self) -> ServedModels:
        """What the members serve, the same object until that changes."""
        return self._models.served

    @property
    def members(self) -> tuple[Instance, ...]:
        """All members, ordered by URL; sorted again only when some have come or gone."""
        if self._ordered is None:
            self._ordered = tuple(sorted(self._members.values(), key=attrgetter("url")))
        return self._ordered

    def group(self, role: Role, model: str = ANY_MODEL) -> Group:
        """Return the group of ``role`` and ``model``, the same one each time."""
        key = GroupKey(model, role)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(key, self._min_share())
        return group

    def all(self) -> tuple[Group, ...]:
        """Return all groups, those without members too."""
        return tuple(self._groups.values())

    def forget(self, models: Container[str]) -> None:
        """Let go of groups without members, of models that aren't among ``models``."""
        for key, group in tuple(self._groups.items()):
            if group.is_empty and key.model != ANY_MODEL and key.model not in models:
                del self._groups[key]
                self._alone.pop(key, None)

    def join(self, instance: Instance) -> None:
        """Take in a new member; it serves what it registered with, else what was learnt of it before."""
        learnt, told = self._learnt.pop(instance.key, ()), instance.registration.models
        instance.models = told_cards(told) if told else learnt
        self._members[instance.key] = instance
        self._ordered = None
        self._models.add(instance.models)
        self.place(instance)
        self._regroup()

    def leave(self, instance: Instance) -> None:
        """Let go of one that is no member any more."""
        del self._members[instance.key]
        self._ordered = None
        self._models.remove(instance.models)
        self._set_groups(instance, ())
        self._regroup()

    def place(self, instance: Instance) -> None:
        """Put a member into the groups of its role and models."""
        self._set_groups(instance, group_keys(instance.role, instance.models, are_several=self._models.are_several))

    def refresh(self, instance: Instance) -> None:
        """Let the groups of ``instance`` select anew: whether it takes new requests may have changed."""
        for group in instance.groups:
            self._groups[group.key].refresh()

    def serve(self, instance: Instance, models: tuple[ModelCard, ...]) -> bool:
        """Take in what a member serves. Returns whether that is something else than before."""
        before, instance.models = instance.models, models
        if {(card.name, card.base) for card in before} == {(card.name, card.base) for card in models}:
            return False  # an engine may tell another time of creation whenever it is asked
        self._models.remove(before)
        self._models.add(models)
        self.place(instance)
        self._regroup()
        return True

    def learn_before(self, key: str, models: tuple[ModelCard, ...]) -> None:
        """Remember what an instance serves that may become a member soon."""
        self._learnt[key] = models
        while len(self._learnt) > _MAX_LEARNT:
            self._learnt.popitem(last=False)

    def _regroup(self) -> None:
        """Put all members into their groups where models have just begun, or ceased, to tell instances apart."""
        if self._are_several is not self._models.are_several:
            self._are_several = self._models.are_several
            for instance in self._members.values():
                self.place(instance)

    def _set_groups(self, instance: Instance, keys: Iterable[GroupKey]) -> None:
        for group in instance.groups:
            self._groups[group.key].leave(instance)
        groups = tuple(self.group(key.role, key.model) for key in keys)
        if len(groups) == 1:
            groups = self._alone.setdefault(groups[0].key, groups)
        instance.groups = groups
        for group in groups:
            group.join(instance)

    def __repr__(self) -> str:
        return f"<Grouping of {len(self._members)} members in {len(self._groups)} groups>"
