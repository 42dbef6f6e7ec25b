"""Runs a source: when it fails, its members stay, the log tells why, and it is run again after a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fd_router.config.dotted_path import say
from fd_router.instances.sources.contract import InstanceSource
from fd_router.instances.sources.members import SourceMembers
from fd_router.telemetry.contracts import Log

FIRST_DELAY_SECS = 1.0
"""After the first failure. Twice as long after each that follows."""

MAX_DELAY_SECS = 60.0
"""The longest delay. A source that ran for so long begins with the first delay again."""


class SourceRunner:
    """One source with its members."""

    def __init__(
        self,
        source: InstanceSource,
        members: SourceMembers,
        *,
        clock: Callable[[], float],
        log: Log,
    ) -> None:
        self._source = source
        self._members = members
        self._clock = clock
        self._log = log

    async def run(self) -> None:
        """Run the source until it returns, or until cancelled."""
        delay = FIRST_DELAY_SECS
        while True:
            began = self._clock()
            try:
                return await self._source.run(self._members)
            except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever a plug-in meets, the fleet is served)
                if self._clock() - began >= MAX_DELAY_SECS:
                    delay = FIRST_DELAY_SECS
                self._members.health.count_failure()
                self._log.error(
                    f"Source {self._members.source.name} failed, its instances stay, it is run again in {delay:g} s: "
                    f"{say(error)}"
                )
            await asyncio.sleep(delay)
            delay = min(2 * delay, MAX_DELAY_SECS)

    def __repr__(self) -> str:
        return f"<SourceRunner of {self._members!r}>"
