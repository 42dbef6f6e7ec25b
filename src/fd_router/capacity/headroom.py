"""Headroom: instances at their limit are left out of their groups' candidates until one of their requests ends."""

from __future__ import annotations

from collections.abc import Callable

from fd_router.instances.instance import Instance, OnLimit


class Headroom:
    """Sets limits, and tells the groups of an instance when it reaches its own and when it comes back below it.

    The instance says so itself, so nothing is looked through for a request.
    """

    def __init__(self) -> None:
        self._listeners: list[Callable[[], None]] = []
        self._tell: OnLimit = self._on_limit  # one object for all instances

    def set_limit(self, instance: Instance, limit: int) -> None:
        """Let ``instance`` have ``limit`` requests at a time from now on (0: any number); none is taken away."""
        was_saturated = instance.is_saturated
        instance.limit = limit
        instance.on_limit = self._tell
        if instance.is_saturated is not was_saturated:
            self._on_limit(instance, instance.is_saturated)

    def on_capacity(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever a saturated instance has headroom again, or there may be more than before."""
        self._listeners.append(listener)

    def notify(self) -> None:
        """There may be more headroom, for other reasons than that a request ended."""
        for listener in self._listeners:
            listener()

    def _on_limit(self, instance: Instance, is_saturated: bool) -> None:
        for group in instance.groups:
            group.on_saturation(instance)
        if not is_saturated:
            self.notify()

    def __repr__(self) -> str:
        return f"<Headroom, {len(self._listeners)} listeners>"
