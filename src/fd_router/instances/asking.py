"""Asking instances when they come up: what a process there is, or knows, may be another thing than the last time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any

from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Health, Instance
from fd_router.instances.registry import Registry


class AsksWhenUp:
    """Does its ``work`` with each instance that comes up: once more where that is under way there already."""

    def __init__(self, registry: Registry) -> None:
        self._under_way: dict[str, asyncio.Task[None]] = {}  # by key
        self._again: dict[str, Instance] = {}  # by key: those that came up meanwhile, another process perhaps
        registry.on_change(self._on_change)

    async def run(self) -> None:
        """Be there until cancelled; nothing that was asked outlives it."""
        try:
            await asyncio.Event().wait()
        finally:
            self._again.clear()
            tasks = tuple(self._under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def work(self, instance: Instance) -> Coroutine[Any, Any, None] | None:
        """Return what asks ``instance``, None where there is nothing to ask."""
        raise NotImplementedError

    def _on_change(self, change: Change) -> None:
        if change.kind not in (ChangeKind.FIRST_UP, ChangeKind.UP):
            return
        if change.instance.key in self._under_way:
            self._again[change.instance.key] = change.instance
        else:
            self._begin(change.instance)

    def _begin(self, instance: Instance) -> None:
        key = instance.key
        if (work := self.work(instance)) is not None:
            self._under_way[key] = task = asyncio.get_running_loop().create_task(work, name=f"ask {key}")
            task.add_done_callback(partial(self._on_done, key))

    def _on_done(self, key: str, _task: asyncio.Task[None]) -> None:
        del self._under_way[key]
        instance = self._again.pop(key, None)
        if instance is not None and instance.health is Health.HEALTHY:
            self._begin(instance)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._under_way)} asked>"
