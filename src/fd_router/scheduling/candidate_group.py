"""A candidate group as the scheduler asks it: who may be chosen, for single requests and for pairs in one way."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain
from typing import Generic, Protocol, TypeVar

from fd_router.scheduling.reservation import InstanceT

InstanceT_co = TypeVar("InstanceT_co", covariant=True)


class CandidateGroup(Protocol[InstanceT_co]):
    """The instances of one model and role. Both sequences are the same objects as long as nothing changes.

    ``instances.groups.Group`` is one; its policy is the scheduler's that asks it.
    """

    @property
    def available(self) -> Sequence[InstanceT_co]:
        """Those that are given new requests, saturated ones too, ordered by URL."""

    @property
    def is_reserve(self) -> bool:
        """Whether they are given requests only because nobody better is left: none of them twice the same one."""

    @property
    def is_saturated(self) -> bool:
        """Whether some are available, and none of them has headroom."""

    def candidates(self, excluded: Collection[str] = ()) -> Sequence[InstanceT_co]:
        """Return those that may be chosen now, ordered by URL, without those whose keys are ``excluded``."""


class UnlimitedGroup(Generic[InstanceT]):
    """Instances that all may be chosen, whatever they have to do: those of a simulation. Their owner sets them."""

    __slots__ = ("available", "is_reserve")

    is_saturated = False

    def __init__(self, instances: Sequence[InstanceT]) -> None:
        self.available = instances
        self.is_reserve = False

    def candidates(self, excluded: Collection[str] = ()) -> Sequence[InstanceT]:
        """Return the instances without those whose keys are ``excluded``."""
        if not excluded:
            return self.available
        return tuple(instance for instance in self.available if instance.key not in excluded)


class JointGroup(Generic[InstanceT]):
    """The instances of several groups together, in the order of the groups: not one sequence by URL."""

    __slots__ = ("_groups",)

    def __init__(self, groups: Sequence[CandidateGroup[InstanceT]]) -> None:
        self._groups = groups

    @property
    def available(self) -> Sequence[InstanceT]:
        """Those of all groups that take new requests."""
        return tuple(chain.from_iterable(group.available for group in self._groups))

    @property
    def is_reserve(self) -> bool:
        """Whether nobody better is left in any of the groups."""
        return all(group.is_reserve for group in self._groups if group.available)

    @property
    def is_saturated(self) -> bool:
        """Whether some are available, and none of them has headroom."""
        return bool(self.available) and not self.candidates()

    def candidates(self, excluded: Collection[str] = ()) -> Sequence[InstanceT]:
        """Return those of all groups that may be chosen now, without the ``excluded``."""
        return tuple(chain.from_iterable(group.candidates(excluded) for group in self._groups))


class FirstGroup(JointGroup[InstanceT]):
    """The candidates of the first of several groups that has any."""

    __slots__ = ()

    def candidates(self, excluded: Collection[str] = ()) -> Sequence[InstanceT]:
        """Return those that may be chosen now, without the ``excluded``."""
        return next((found for group in self._groups if (found := group.candidates(excluded))), ())
