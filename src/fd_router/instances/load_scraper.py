"""The load scraper: reads the instances' own figures again and again, so that no decision has to wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from fd_router.engines.engine_load import EngineLoad
from fd_router.errors import UpstreamError, place_of
from fd_router.http.pace import Pace
from fd_router.instances.instance import Instance
from fd_router.telemetry.contracts import Log

GetMetrics = Callable[[Instance, float], Awaitable[tuple[int, bytes]]]
"""(instance, time limit in seconds) → status and body of the page with its load. Raises UpstreamError."""

OnCapacity = Callable[[Instance, int], None]
"""(instance, KV-cache blocks): called when an instance turns out to hold more than it was known to."""

OnCount = Callable[[Instance, float, int], None]
"""(instance, requests there by its own word, by this router's count when it was asked)."""


class ReportedLoads(Protocol):
    """Where the figures go."""

    def report(self, url: str, running: float, waiting: float, own: int) -> None:
        """Take in what an instance said; ``own`` were this router's requests there when it was asked."""


class LoadScraper:
    """Asks all instances at once, every ``interval`` seconds; one that hasn't answered yet isn't asked again.

    An instance without an answer for ``max_age`` seconds is named in one warning, until it answers again.
    """

    def __init__(
        self,
        instances: Callable[[], Iterable[Instance]],
        get_metrics: GetMetrics,
        figures: ReportedLoads,
        *,
        clock: Callable[[], float],
        log: Log,
        interval: float = 0.2,
        max_age: float = 2.0,
        max_concurrent: int = 128,
        on_capacity: OnCapacity | None = None,
        on_count: OnCount | None = None,
    ) -> None:
        self._instances = instances
        self._get_metrics = get_metrics
        self._figures = figures
        self._clock = clock
        self._log = log
        self._interval = interval
        self._max_age = max_age
        self._slots = asyncio.Semaphore(max_concurrent)
        self._on_capacity = on_capacity
        self._on_count = on_count
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._answered: dict[str, float] = {}  # when; of one that never did, when it was first asked
        self._silent: set[str] = set()  # those in a warning
        self._capacity: dict[str, int] = {}
        self._forgotten: set[str] = set()  # since this round began

    async def run(self) -> None:
        """Scrape until cancelled; no request outlives it."""
        try:
            while True:
                await self._start_round()
                await asyncio.sleep(self._interval)
        finally:
            tasks = tuple(self._under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def forget(self, instance: Instance) -> None:
        """The instance is no member any more, or begins anew with an empty cache."""
        self._answered.pop(instance.url, None)
        self._capacity.pop(instance.url, None)
        self._silent.discard(instance.url)
        self._forgotten.add(instance.url)

    async def _start_round(self) -> None:
        now, pace = self._clock(), Pace()
        self._forgotten.clear()
        for instance in tuple(self._instances()):
            await pace.breathe()
            if instance.url in self._forgotten:
                continue
            answered = self._answered.setdefault(instance.url, now)
            if now - answered > self._max_age and instance.url not in self._silent:
                self._silent.add(instance.url)
                self._log.warn(
                    f"No load figures from {instance.url} for {now - answered:.1f} s; this router's own counts are used"
                )
            if instance.url not in self._under_way:
                task = asyncio.get_running_loop().create_task(self._scrape(instance), name=f"scrape {instance.key}")
                self._under_way[instance.url] = task
                task.add_done_callback(lambda _, url=instance.url: self._under_way.pop(url, None))  # type: ignore[misc]

    async def _scrape(self, instance: Instance) -> None:
        since = self._answered.get(instance.url)  # it stays the same, unless the instance is forgotten
        async with self._slots:
            if self._answered.get(instance.url) != since:
                return
            own = instance.running  # what is sent from now on may be missing in the answer
            try:
                status, page = await self._get_metrics(instance, self._max_age)
            except UpstreamError:
                return
        load = self._read(instance, page) if status == 200 else None
        if load is not None and since is not None and self._answered.get(instance.url) == since:
            self._take(instance, load, own)

    def _read(self, instance: Instance, page: bytes) -> EngineLoad | None:
        dialect, url = instance.dialect, instance.url
        try:
            return dialect.read_load(page)
        except Exception as error:  # noqa: BLE001  a third party's: told once, until it can read a page again
            if url not in self._silent and url in self._answered:
                self._silent.add(url)
                self._log.warn(
                    f"The dialect {dialect.name} failed in read_load for {url}: {place_of(error)}; this router's own "
                    "counts are used"
                )
            return None

    def _take(self, instance: Instance, load: EngineLoad, own: int) -> None:
        url = instance.url
        self._figures.report(url, load.running, load.waiting, own)
        if self._on_count is not None:
            self._on_count(instance, load.running + load.waiting, own)
        self._answered[url] = self._clock()
        if url in self._silent:
            self._silent.discard(url)
            self._log.info(f"Load figures from {url} again")
        # An engine tells how many blocks are free or only cached; the most it ever told is what it has.
        blocks = int(load.free_blocks or 0)
        if blocks > self._capacity.get(url, 0):
            self._capacity[url] = blocks
            if self._on_capacity is not None:
                self._on_capacity(instance, blocks)

    def __repr__(self) -> str:
        return (
            f"<LoadScraper {len(self._answered)} instances, {len(self._under_way)} asked, {len(self._silent)} silent>"
        )
