"""How many requests each instance may have at once."""

from __future__ import annotations

from fd_router.capacity.headroom import Headroom
from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Instance
from fd_router.instances.registry import Registry


class Limits:
    """Sets each member's limit: its own word (``max_requests``), else the router's option; 0 is none.

    Less for a while is what ``hold`` is for.
    """

    def __init__(self, registry: Registry, room: Headroom, max_requests: int = 0) -> None:
        self._room = room
        self._max_requests = max_requests
        self._held: dict[str, dict[str, int]] = {}  # key → why → limit
        registry.on_change(self._on_change)

    def of(self, instance: Instance) -> int:
        """Return the limit of ``instance``, 0 for none."""
        limit = instance.registration.max_requests or self._max_requests
        held = self._held.get(instance.key)
        return min((*held.values(), limit or max(held.values()))) if held else limit

    def hold(self, instance: Instance, why: str, limit: int) -> None:
        """Let ``instance`` have no more than ``limit`` at a time because of ``why``, until that is set to 0."""
        held = self._held.setdefault(instance.key, {})
        if limit:
            held[why] = limit
        else:
            held.pop(why, None)
        if not held:
            del self._held[instance.key]
        self._room.set_limit(instance, self.of(instance))

    def _on_change(self, change: Change) -> None:
        if change.kind is ChangeKind.REMOVED:
            self._held.pop(change.instance.key, None)
            self._room.set_limit(change.instance, 0)
        else:
            self._room.set_limit(change.instance, self.of(change.instance))
            self._room.tell()

    def __repr__(self) -> str:
        return f"<Limits {self._max_requests or 'none'} for each, {len(self._held)} held>"
