"""The rescue of requests from an instance that is dead: those that it hasn't begun to answer go elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from fd_router.bugs import bugs_told
from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Health, Instance
from fd_router.telemetry.contracts import Log

AT_A_TIME: Final = 100
"""Requests looked at before others get their turn: each that is moved is scheduled anew."""

SILENT_SECS: Final = 1.0
"""An instance that sent bytes of an answer less than so long ago isn't dead: it is about to stop, perhaps."""


class Rescuable(Protocol):
    """A request under way."""

    def on_instance_dead(self, key: str, why: str) -> bool:
        """Go elsewhere, if it waits for an answer of the instance with ``key``. Returns whether it did."""


class Rescue:
    """Hears that an instance is dead, and tells the requests; without it they would wait for their time limits.

    Where no other instance takes new requests they stay: nobody could have them, and it may yet answer.
    """

    def __init__(
        self,
        requests: Callable[[], Iterable[Rescuable]],
        delivered_at: Callable[[str], float],
        *,
        clock: Callable[[], float],
        log: Log,
    ) -> None:
        """``delivered_at``: when the instance with a key last sent bytes of an answer that is under way."""
        self._requests = requests
        self._delivered_at = delivered_at
        self._clock = clock
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()

    def on_change(self, change: Change) -> None:
        """See ``Registry.on_change``."""
        instance = change.instance
        if change.kind is not ChangeKind.DEAD or not instance.own_running or not _has_others(instance):
            return
        if self._clock() - self._delivered_at(instance.key) < SILENT_SECS:
            return
        task = asyncio.get_running_loop().create_task(self.move(instance, change.detail))
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._tasks.discard)

    async def move(self, instance: Instance, why: str) -> None:
        """Move what ``instance`` hasn't begun to answer, as long as it isn't back."""
        moved = 0
        for number, request in enumerate(tuple(self._requests()), 1):
            with bugs_told("a rescue failed"):
                moved += request.on_instance_dead(instance.key, why)
            if not number % AT_A_TIME:
                await asyncio.sleep(0)
                if instance.health is not Health.UNHEALTHY:
                    break
        if moved:
            self._log.warn(f"{instance.url} is dead ({why}): {moved} requests without an answer were taken from it")

    def __repr__(self) -> str:
        return f"<Rescue {len(self._tasks)} under way>"


def _has_others(instance: Instance) -> bool:
    return any(other.takes_new for group in instance.groups for other in group.available if other is not instance)
