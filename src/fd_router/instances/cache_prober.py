"""The cache prober: asks instances how much their KV caches hold, and how many ranks with a cache they have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from fd_router.engines.cache_facts import CacheFacts
from fd_router.errors import UpstreamError
from fd_router.http.pace import gather_few
from fd_router.instances.instance import Health, Instance

INTERVAL_SECS = 30.0
"""What is told changes with a restart only."""

TIME_LIMIT_SECS = 5.0

LOOK_SECS = 1.0
"""How long after an instance is healthy it is asked at the latest."""

AT_ONCE = 16

OTHERS_SECS = 2 * INTERVAL_SECS
"""How long an instance that another process asks isn't asked here, if nothing is heard of it."""

GetPage = Callable[[Instance, float], Awaitable[tuple[int, bytes]]]
"""(instance, time limit in seconds) → status and body of the page with its load. Raises UpstreamError."""


class Others(Protocol):
    """Other processes before the same fleet."""

    def is_mine(self, key: str, /) -> bool:
        """Whether the instance with a key is for this process to ask again and again."""

    def tell(self, key: str, facts: CacheFacts | None) -> None:
        """Tell them what it answered; None: nothing that says anything of its cache."""


class CacheProber:
    """Asks each healthy instance whose engine tells, when it has become healthy and every ``INTERVAL_SECS`` again.

    What another process of a set asks again isn't asked here as long as that one tells what it hears.
    """

    def __init__(
        self,
        instances: Callable[[], Iterable[Instance]],
        get_page: GetPage,
        on_facts: Callable[[Instance, CacheFacts], None],
        clock: Callable[[], float],
        others: Others | None = None,
    ) -> None:
        self._instances = instances
        self._get_page = get_page
        self._on_facts = on_facts
        self._clock = clock
        self._others = others
        self._due: dict[str, float] = {}  # by key; those that are healthy
        self._healthy: dict[str, Instance] = {}  # the same ones

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self.ask()
            await asyncio.sleep(LOOK_SECS)

    async def ask(self) -> None:
        """Ask all whose turn it is. One that doesn't answer has its next turn then."""
        now, healthy, due = self._clock(), Health.HEALTHY, self._due
        asked = [each for each in self._instances() if each.health is healthy and each.dialect.tells_cache]
        self._healthy = {each.key: each for each in asked}
        if self._healthy.keys() != due.keys():
            self._due = due = {key: due.get(key, now) for key in self._healthy}
        turns = [each for each in asked if due[each.key] <= now]
        if turns:  # else it is most of a look's cost to begin with nobody
            self._due |= {each.key: now + self._pause(each.key) for each in turns}
            await gather_few(self._ask_one, turns, AT_ONCE)

    async def _ask_one(self, instance: Instance) -> None:
        if _is_gone(instance):
            return
        try:
            status, page = await self._get_page(instance, TIME_LIMIT_SECS)
        except UpstreamError:
            return
        facts = instance.dialect.read_cache(page) if status == 200 else None
        if _is_gone(instance):
            return
        if facts is not None:
            self._on_facts(instance, facts)
        if self._others is not None:
            self._others.tell(instance.key, facts)

    def hear(self, key: str, facts: CacheFacts | None) -> None:
        """Another process has asked the instance with ``key``."""
        instance = self._healthy.get(key)
        if instance is None or _is_gone(instance):
            return
        if not self._is_mine(key):
            self._due[key] = self._clock() + OTHERS_SECS
        if facts is not None:
            self._on_facts(instance, facts)

    def _pause(self, key: str) -> float:
        return INTERVAL_SECS if self._is_mine(key) else OTHERS_SECS

    def _is_mine(self, key: str) -> bool:
        return self._others is None or self._others.is_mine(key)

    def __repr__(self) -> str:
        return f"<CacheProber of {len(self._due)} instances>"


def _is_gone(instance: Instance) -> bool:
    """Whether it was removed, or is down, by now."""
    return instance.health is Health.UNHEALTHY
