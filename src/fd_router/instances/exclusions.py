"""Exclusions: why instances may not be chosen, in the words of an error's message."""

from __future__ import annotations

from collections.abc import Sequence

from fd_router.instances.instance import Health, Instance
from fd_router.instances.registry import Registry

_NAMED = 5


def why_none(registry: Registry) -> str:
    """Say why there is nobody to choose from."""
    known = registry.all()
    if not known:
        return "no instance is registered"
    return f"none of {len(known)} registered instances may be chosen ({_states(known)})"


def left_out(registry: Registry) -> str:
    """Say which instances may not be chosen, and why, or nothing."""
    return _states([instance for instance in registry.all() if not instance.takes_new])


def why_excluded(instance: Instance) -> str:
    """Tell in a few words why an instance may not be chosen."""
    if instance.is_draining:
        return "drains"
    if instance.health is Health.HEALTHY and instance.registration.is_paused:
        return "is paused"
    return f"is {instance.health.value}" + (
        ", its circuit is open" if instance.is_ejected else ", it said it has no room" if instance.is_cooling else ""
    )


def _states(instances: Sequence[Instance]) -> str:
    told = [f"{instance.url} {why_excluded(instance)}" for instance in instances[:_NAMED]]
    return ", ".join(told) + (", …" if len(instances) > _NAMED else "")
