"""The fleet as the dashboard shows it: an entry for each instance, and for each API key its limits and what is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fd_router.admission.allowance import Allowance
from fd_router.instances.instance import Instance, Readiness

MAX_MODELS = 20
"""Names of models that an entry lists."""


def instance_entry(
    instance: Instance, circuit: str, cached_blocks: Callable[[str], int] | None, *, removed: bool = False
) -> dict[str, Any]:
    """Describe an instance. ``circuit``: "" where it has none. ``cached_blocks``: of an instance, by its URL."""
    registration = instance.registration
    return {
        "key": instance.key,
        "url": instance.url,
        "role": registration.role,
        "models": [card.name for card in instance.models[:MAX_MODELS]],
        "state": "removed" if removed else instance.health.value,
        "flags": _flags(instance),
        "circuit": circuit,
        "running": instance.running,
        "limit": instance.limit,
        "tokens": instance.tokens,
        "cached_blocks": cached_blocks(instance.url) if cached_blocks is not None else None,
        "source": instance.source.name,
    }


def _flags(instance: Instance) -> list[str]:
    """Return why it gets nothing, or little, although it may be healthy."""
    flags = (
        ("draining", instance.is_draining),
        ("paused", instance.registration.is_paused),
        (instance.readiness.value, instance.readiness is not Readiness.READY),
        ("circuit open", instance.is_ejected),
        ("stuck", instance.is_stuck),
        ("cooling", instance.is_cooling),
        ("full", instance.is_saturated),
    )
    return [name for name, holds in flags if holds]


def key_entry(allowance: Allowance) -> dict[str, Any]:
    """Describe an API key."""
    key = allowance.key
    left: Mapping[str, int] = {kind: rest for kind, _, rest in allowance.left()}
    return {
        "name": key.name,
        "priority": key.priority,
        "running": allowance.running,
        "max_concurrent": key.max_concurrent,
        "requests": allowance.requests,
        "refused": allowance.refused,
        "tokens": allowance.tokens,
        "requests_per_minute": key.requests_per_minute,
        "requests_left": left.get("requests"),
        "tokens_per_minute": key.tokens_per_minute,
        "tokens_left": left.get("tokens"),
    }
