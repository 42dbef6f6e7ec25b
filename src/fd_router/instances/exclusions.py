"""Exclusions: why instances may not be chosen, in the words of an error's message."""

from __future__ import annotations

from collections.abc import Sequence

from fd_router.instances.group_key import ANY_MODEL
from fd_router.instances.instance import Health, Instance, Readiness
from fd_router.instances.registry import Registry

_NAMED = 5


def why_none(registry: Registry, model: str = ANY_MODEL) -> str:
    """Say why there is nobody to choose from, of those that serve ``model``."""
    known = _serving(registry, model)
    of_model = "" if model == ANY_MODEL else f" of model {model!r}"
    if not known:
        return f"no instance{of_model} is registered"
    return f"none of {len(known)} registered instances{of_model} may be chosen ({_states(known)})"


def left_out(registry: Registry, model: str = ANY_MODEL) -> str:
    """Say which instances that serve ``model`` may not be chosen, and why, or nothing."""
    return _states([instance for instance in _serving(registry, model) if not instance.takes_new])


def _serving(registry: Registry, model: str) -> Sequence[Instance]:
    if model == ANY_MODEL:
        return registry.all()
    return [instance for instance in registry.all() if any(card.name == model for card in instance.models)]


def why_excluded(instance: Instance) -> str:
    """Tell in a few words why an instance may not be chosen."""
    if instance.is_draining:
        return "drains"
    if instance.readiness is Readiness.TERMINATING:
        return "terminates"
    if instance.health is Health.HEALTHY and instance.readiness is Readiness.UNREADY:
        return "is not ready"
    if instance.health is Health.HEALTHY and instance.registration.is_paused:
        return "is paused"
    return f"is {instance.health.value}" + (
        ", its circuit is open"
        if instance.is_ejected
        else ", it said it has no room"
        if instance.is_cooling
        else ", its streams are silent"
        if instance.is_stuck
        else ""
    )


def _states(instances: Sequence[Instance]) -> str:
    told = [f"{instance.url} {why_excluded(instance)}" for instance in instances[:_NAMED]]
    return ", ".join(told) + (", …" if len(instances) > _NAMED else "")
