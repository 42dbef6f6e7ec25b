"""The count audit: whether requests at instances are counted right, against connections and the engines' own word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from fd_router.http.pace import Pace
from fd_router.instances.instance import Instance
from fd_router.telemetry.contracts import Log

CERTAIN_AFTER = 3
"""Audits in a row that must find a count too high before it is put right."""

LASTING_SECS = 30.0
"""How long an engine must know of fewer requests than were sent there before a warning says so."""


class Counters(Protocol):
    """What is counted."""

    def repaired(self, url: str, requests: int) -> None:
        """So many requests were counted at the instance that weren't there any more."""


class _Gap:
    """How much more this router counts at an instance than its engine does, and since when without a break."""

    __slots__ = ("least", "now", "since", "told")

    def __init__(self) -> None:
        self.now = 0
        self.least = 0  # since then
        self.since = 0.0
        self.told = False


class CountAuditor:
    """Compares an instance's count with what must be there if it is true, and puts it right.

    Each request at an instance has a busy connection there, or one that is being opened, so a count above the number
    of those is a leak; one above the engine's own running and waiting requests is either that, or requests that the
    engine has lost, which end by their time limits. An engine that counts more than this router serves others as well.
    """

    def __init__(
        self,
        instances: Callable[[], Iterable[Instance]],
        busy: Callable[[Instance], int],
        *,
        clock: Callable[[], float],
        log: Log,
        counters: Counters,
        interval: float = 5.0,
    ) -> None:
        self._instances = instances
        self._busy = busy
        self._clock = clock
        self._log = log
        self._counters = counters
        self._interval = interval
        self._found: dict[str, list[int]] = {}  # key → by how much its count was too high in the last audits
        self._gaps: dict[str, tuple[Instance, _Gap]] = {}  # by key

    async def run(self) -> None:
        """Audit until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            pace = Pace()
            for _ in self._audit():
                await pace.breathe()

    def audit(self) -> None:
        """Look at every count once; put right what was too high ``CERTAIN_AFTER`` times in a row."""
        for _ in self._audit():
            pass

    def _audit(self) -> Iterator[None]:
        """Do so instance by instance: 10,000 take 50 ms."""
        instances = tuple(self._instances())
        at_work = [x for x in instances if x.running != x.running_elsewhere or x.tokens != x.tokens_elsewhere]  # few
        for instance in at_work:
            own = instance.own_running
            excess = own - self._busy(instance)
            is_wrong = excess > 0 or own < 0 or bool(instance.own_tokens and not own)
            found = self._found.setdefault(instance.key, [])
            found.append(max(0, excess))
            if not is_wrong:
                del self._found[instance.key]
            elif len(found) == CERTAIN_AFTER:
                del self._found[instance.key]
                self._repair(instance, min(found))
            yield
        counted, known = {each.key for each in at_work}, {each.key for each in instances}
        self._found = {key: found for key, found in self._found.items() if key in counted}
        self._gaps = {key: pair for key, pair in self._gaps.items() if key in known}

    def _repair(self, instance: Instance, excess: int) -> None:
        before = instance.own_running, instance.own_tokens
        instance.repair(excess)
        after = instance.own_running, instance.own_tokens
        if after != before:
            self._counters.repaired(instance.url, abs(before[0] - after[0]))
            self._log.error(
                f"Count of {instance.url} put right, from {before[0]} requests and {before[1]} tokens to {after[0]} "
                f"and {after[1]}: no connection there serves the others. This is a bug in the router; please report it"
            )

    def compare(self, instance: Instance, at_engine: float, own: int) -> None:
        """Take in that ``instance`` says it has ``at_engine`` requests; this router counted ``own`` when it asked."""
        _, gap = self._gaps.setdefault(instance.key, (instance, _Gap()))
        now = self._clock()
        # What ended or began while it was asked is no difference: the lower of the two counts is certain.
        gap.now = min(own, instance.running) - round(at_engine)
        if gap.now <= 0:
            if gap.told:
                self._log.info(f"{instance.url} knows of all its requests again")
            gap.least, gap.since, gap.told = 0, 0.0, False
            return
        if not gap.since:
            gap.since, gap.least = now, gap.now
        gap.least = min(gap.least, gap.now)
        if not gap.told and now - gap.since >= LASTING_SECS:
            gap.told = True
            self._log.warn(
                f"{instance.url} knows of {gap.least} requests fewer than it was sent, for {now - gap.since:.0f} s: "
                "they may be lost; they end by their time limits"
            )

    def gaps(self) -> Iterator[tuple[Instance, int]]:
        """Give each instance whose engine told, with this router's count less the engine's."""
        return ((instance, gap.now) for instance, gap in self._gaps.values())

    def __repr__(self) -> str:
        return f"<CountAuditor {len(self._gaps)} compared with their engines>"
