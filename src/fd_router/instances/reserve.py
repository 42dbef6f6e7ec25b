"""The reserve: instances that are given requests although something speaks against them, for want of better ones."""

from __future__ import annotations

from collections.abc import Iterable

from fd_router.instances.doubt import Doubt
from fd_router.instances.instance import Health, Instance, Readiness


def reserve_of(members: Iterable[Instance], serving: int, min_share: float) -> list[Instance]:
    """Return those that are to serve beside the ``serving`` ones, the best ones first.

    As many as make the ``min_share`` of the members that have been up. Beside healthy ones these are instances that
    answered no probe in time, as busy ones do: with each that was left out, the others would get busier. Where nobody
    else is left, at least one serves, with whatever leaves hope: better the best suspect than an error.
    """
    all_members = tuple(members)
    if serving >= max(1.0, min_share * len(all_members)):  # mostly: no more than that can be wanted
        return []
    wanted = max(1.0, min_share * sum(x.is_proven and not _is_held_back(x) for x in all_members))
    if serving >= wanted:
        return []
    allowed = [x for x in all_members if (_is_late(x) if serving else _leaves_hope(x)) and not _is_held_back(x)]
    missing = -int(-(wanted - serving) // 1)  # rounded up
    return sorted(allowed, key=_rank)[:missing]


def _is_held_back(instance: Instance) -> bool:
    """Whether somebody's word keeps it from new requests."""
    is_ending = instance.readiness is Readiness.TERMINATING
    return instance.registration.is_paused or instance.is_draining or is_ending


def _is_late(instance: Instance) -> bool:
    return instance.is_proven and instance.doubt is Doubt.LATE and not instance.is_ejected


def _leaves_hope(instance: Instance) -> bool:
    return not instance.is_ejected and (instance.health is Health.HEALTHY or instance.doubt.leaves_hope)


def _rank(instance: Instance) -> tuple[bool, bool, Doubt, float, str]:
    """Order by how likely it is that it serves: what it was found to be, and who answered last."""
    return not instance.is_proven, instance.is_stuck, instance.doubt, -instance.answered_at, instance.url
