"""Sparing an instance: whether its groups can do without it, so that it may be given nothing new for a while."""

from __future__ import annotations

from fd_router.instances.instance import Instance
from fd_router.instances.registry import Registry


def can_spare(registry: Registry, instance: Instance, min_share: float) -> bool:
    """Return whether ``min_share`` of the proven instances of each of its groups, and at least one, are left."""
    for group in instance.groups:
        proven = registry.proven(group.key)
        left = [x for x in proven if x.takes_new and x is not instance]
        if not left or len(left) < min_share * len(proven):
            return False
    return True
