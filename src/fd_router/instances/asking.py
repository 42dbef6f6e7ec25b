"""Asking instances when they come up: what a process there is, or knows, may be another thing than the last time."""

from __future__ import annotations

import asyncio

from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Instance
from fd_router.instances.registry import Registry
from fd_router.instances.work_queue import WorkQueue


class AsksWhenUp:
    """Does its ``work`` with each instance that comes up, unless that is under way there already."""

    def __init__(self, registry: Registry, *, most: int) -> None:
        """``most``: how many are asked at once."""
        self._under_way = WorkQueue(self.work, most=most)
        registry.on_change(self._on_change)

    async def run(self) -> None:
        """Be there until cancelled; nothing that was asked outlives it."""
        try:
            await asyncio.Event().wait()
        finally:
            await self._under_way.stop()

    def is_to_be_asked(self, instance: Instance) -> bool:
        """Whether there is something to ask ``instance``."""
        raise NotImplementedError

    async def work(self, instance: Instance) -> None:
        """Ask it."""
        raise NotImplementedError

    def _on_change(self, change: Change) -> None:
        if change.kind in (ChangeKind.FIRST_UP, ChangeKind.UP) and self.is_to_be_asked(change.instance):
            self._under_way.start(change.instance.key, change.instance)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._under_way)} asked>"
