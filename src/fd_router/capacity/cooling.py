"""Cooling: an instance that says it has no room is given nothing new for as long as it asks, or a growing moment."""

from __future__ import annotations

from collections.abc import Callable

from fd_router.capacity.sparing import can_spare
from fd_router.capacity.ticking import Ticking
from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Health, Instance, OnBusy
from fd_router.instances.registry import Registry

FIRST_SECS = 0.2
"""How long it lasts when the instance doesn't say; twice as long each time that it is followed soon by another."""

MAX_SECS = 30.0
"""The longest that it lasts, whatever the instance says."""


class _Cooled:
    """When an instance's cooling ends, and how long it was."""

    __slots__ = ("instance", "seconds", "until")

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.until = 0.0
        self.seconds = 0.0


class Cooling(Ticking):
    """Gives each member a cooler, and takes those that are cooled out of their groups' candidates for a while.

    Who refuses fastest has the fewest requests running, and would get most of them. ``min_share`` of a group's
    instances are always left: with nobody to take its place an instance goes on being asked.
    """

    def __init__(
        self, registry: Registry, on_capacity: Callable[[], None], *, min_share: float, clock: Callable[[], float]
    ) -> None:
        """``on_capacity`` is called when an instance may be asked again."""
        self._registry = registry
        self._on_capacity = on_capacity
        self._min_share = min_share
        self._clock = clock
        self._on_busy: OnBusy = self.busy  # one object for all instances
        self._cooled: dict[str, _Cooled] = {}  # also those whose cooling ended a short time ago
        registry.on_change(self._on_change)

    def tick(self) -> None:
        """End the coolings whose time is over, and forget those that ended long ago."""
        now = self._clock()
        for key, cooled in tuple(self._cooled.items()):
            if now >= cooled.until:
                self._warm(cooled)
            if now >= cooled.until + max(1.0, cooled.seconds):
                del self._cooled[key]

    def busy(self, instance: Instance, seconds: float) -> None:
        """Cool ``instance`` for so many ``seconds`` (0: it didn't say), if enough others are left."""
        if instance.is_cooling or not can_spare(self._registry, instance, self._min_share):
            return
        cooled = self._cooled.setdefault(instance.key, _Cooled(instance))
        cooled.instance = instance
        cooled.seconds = min(MAX_SECS, seconds or max(FIRST_SECS, 2 * cooled.seconds))
        cooled.until = self._clock() + cooled.seconds
        self._registry.set_cooling(instance, cooling=True)

    def _warm(self, cooled: _Cooled) -> None:
        if cooled.instance.is_cooling:
            self._registry.set_cooling(cooled.instance, cooling=False)
            self._on_capacity()

    def _on_change(self, change: Change) -> None:
        instance, kind = change.instance, change.kind
        if kind is ChangeKind.ADDED:
            instance.on_busy = self._on_busy
        elif kind is ChangeKind.REMOVED:
            self._cooled.pop(instance.key, None)
            instance.is_cooling = False
        for cooled in tuple(self._cooled.values()):  # the others may be gone that were to take its place
            mine = cooled.instance
            if mine.is_cooling and mine.health is Health.HEALTHY and not any(group.is_serving for group in mine.groups):
                self._warm(cooled)

    def __repr__(self) -> str:
        return f"<Cooling {sum(cooled.instance.is_cooling for cooled in self._cooled.values())} cooled>"
