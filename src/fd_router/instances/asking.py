"""Asking instances when they come up: what a process there is, or knows, may be another thing than the last time."""

from __future__ import annotations

import asyncio

from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Health, Instance
from fd_router.instances.registry import Registry
from fd_router.instances.work_queue import WorkQueue


class AsksWhenUp:
    """Does its ``work`` with each instance that comes up: once more where that is under way there already."""

    def __init__(self, registry: Registry, *, most: int) -> None:
        """``most``: how many are asked at once."""
        self._under_way = WorkQueue(self.work, most=most, on_done=self._on_done)
        self._again: dict[str, Instance] = {}  # by key: those that came up meanwhile, another process perhaps
        registry.on_change(self._on_change)

    async def run(self) -> None:
        """Be there until cancelled; nothing that was asked outlives it."""
        try:
            await asyncio.Event().wait()
        finally:
            self._again.clear()
            await self._under_way.stop()

    def is_to_be_asked(self, instance: Instance) -> bool:
        """Whether there is something to ask ``instance``."""
        raise NotImplementedError

    async def work(self, instance: Instance) -> None:
        """Ask it."""
        raise NotImplementedError

    def _on_change(self, change: Change) -> None:
        if change.kind not in (ChangeKind.FIRST_UP, ChangeKind.UP):
            return
        if self._under_way.has_begun(change.instance.key):
            self._again[change.instance.key] = change.instance
        else:
            self._begin(change.instance)

    def _begin(self, instance: Instance) -> None:
        if self.is_to_be_asked(instance):
            self._under_way.start(instance.key, instance)

    def _on_done(self, key: str) -> None:
        instance = self._again.pop(key, None)
        if instance is not None and instance.health is Health.HEALTHY:
            self._begin(instance)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._under_way)} asked>"
