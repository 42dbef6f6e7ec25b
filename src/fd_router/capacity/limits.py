"""Limits: how many requests each instance may have at once."""

from __future__ import annotations

from fd_router.capacity.headroom import Headroom
from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Instance
from fd_router.instances.registry import Registry


class Limits:
    """Sets each member's limit: its own word (``max_requests``), else the router's option; 0 is none.

    Less for a while is what ``cap`` is for.
    """

    def __init__(self, registry: Registry, headroom: Headroom, max_requests: int = 0) -> None:
        self._headroom = headroom
        self._max_requests = max_requests
        self._caps: dict[str, dict[str, int]] = {}  # key → why → limit
        registry.on_change(self._on_change)

    def of(self, instance: Instance) -> int:
        """Return the limit of ``instance``, 0 for none."""
        limit = instance.registration.max_requests or self._max_requests
        caps = self._caps.get(instance.key)
        return min((*caps.values(), limit or max(caps.values()))) if caps else limit

    def cap(self, instance: Instance, why: str, limit: int) -> None:
        """Let ``instance`` have no more than ``limit`` at a time because of ``why``, until that is set to 0."""
        caps = self._caps.setdefault(instance.key, {})
        if limit:
            caps[why] = limit
        else:
            caps.pop(why, None)
        if not caps:
            del self._caps[instance.key]
        self._headroom.set_limit(instance, self.of(instance))

    def _on_change(self, change: Change) -> None:
        if change.kind is ChangeKind.REMOVED:
            self._caps.pop(change.instance.key, None)
            self._headroom.set_limit(change.instance, 0)
        else:
            self._headroom.set_limit(change.instance, self.of(change.instance))
            self._headroom.notify()

    def __repr__(self) -> str:
        return f"<Limits {self._max_requests or 'none'} for each, {len(self._caps)} capped>"
