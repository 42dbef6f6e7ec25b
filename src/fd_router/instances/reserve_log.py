"""The log of the reserve: a line when a group has nobody else any more, and one when that is over."""

from __future__ import annotations

from collections.abc import Callable

from fd_router.instances.changes import Change
from fd_router.instances.group_key import GroupKey
from fd_router.instances.instance import MemberGroup
from fd_router.telemetry.contracts import Log

LOOK_SECS = 0.1
"""How long changes may wait to be looked at together: 10,000 instances make ten thousand of them in a row."""


class ReserveLog:
    """Hears of each change of the registry, and tells the log what it means for the groups."""

    def __init__(self, log: Log, later: Callable[[float, Callable[[], None]], object]) -> None:
        """``later``: calls what it is given after so many seconds."""
        self._log = log
        self._later = later
        self._is_due = False
        self._groups: dict[GroupKey, MemberGroup] = {}
        self._told: set[GroupKey] = set()  # those that have only their reserve

    def on_change(self, change: Change) -> None:
        """See ``Registry.on_change``."""
        self._groups.update((group.key, group) for group in change.instance.groups)
        if not self._is_due:
            self._is_due = True
            self._later(LOOK_SECS, self._look)

    def _look(self) -> None:
        self._is_due = False
        for key, group in self._groups.items():
            if group.is_serving and key not in self._told:
                continue  # which the first of thousands may tell, while all of them change
            serving = group.available  # which is what ``is_reserve`` is about
            if group.is_reserve is (key in self._told):
                continue
            if group.is_reserve:
                self._told.add(key)
                urls = ", ".join(instance.url for instance in serving[:5])
                self._log.warn(
                    f"No {key} instance is healthy: requests go to the likeliest to serve all the same ({urls})"
                )
            else:
                self._told.discard(key)
                self._log.info(f"The {key} requests no longer go to instances that aren't healthy")
