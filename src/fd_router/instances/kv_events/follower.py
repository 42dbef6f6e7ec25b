"""The follower: finds out which instances publish KV events, and follows those that do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from fd_router.engines.kv_sources import KvEventSource, read_told_sources
from fd_router.errors import UpstreamError, place_of
from fd_router.http.pace import gather_few
from fd_router.instances.instance import Health, Instance
from fd_router.instances.kv_events.stream import Cache
from fd_router.telemetry.contracts import Log

LOOK_SECS: Final = 1.0
"""How long after an instance is healthy it is asked at the latest."""

AGAIN_SECS: Final = 30.0
"""When one that told of no events, or didn't answer, is asked again."""

TIME_LIMIT_SECS: Final = 5.0

AT_ONCE: Final = 16

GetPage = Callable[[Instance, str, float], Awaitable[tuple[int, bytes]]]
"""(instance, path, time limit in seconds) → status and body. Raises UpstreamError."""


_Told = tuple[dict[str, Any], int]
"""What a registration says of KV events, and of ranks, each of which has its own."""


class Following(Protocol):
    """What follows one rank; see ``sockets.Subscription``."""

    def close(self) -> None:
        """Follow it no more."""


class Follows(Protocol):
    """Opens what follows a source; see ``sockets.Subscriptions``."""

    def add(self, host: str, source: KvEventSource, cache: Cache, /) -> Following:
        """Follow a source at ``host``. Raises OSError."""


class Caches(Protocol):
    """Where what is told goes."""

    def open(self, instance: Instance, ranks: int) -> Sequence[Cache]:
        """Return a cache for each rank; nothing where ranks aren't told apart."""

    def close(self, instance: Instance) -> None:
        """Nothing more is told of those of ``instance``."""


class KvEventFollower:
    """Asks each healthy instance whose engine may tell, unless its registration does, and follows what it is told."""

    def __init__(
        self,
        instances: Callable[[], Iterable[Instance]],
        get_page: GetPage,
        follows: Follows,
        caches: Caches,
        *,
        clock: Callable[[], float],
        log: Log,
    ) -> None:
        self._instances = instances
        self._get_page = get_page
        self._follows = follows
        self._caches = caches
        self._clock = clock
        self._log = log
        self._due: dict[str, float] = {}  # by key: when an instance that isn't followed is asked
        self._followed: dict[str, tuple[Instance, _Told, list[Following]]] = {}  # by key

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECS)

    async def look(self) -> None:
        """Ask all whose turn it is, those among them that tell of other places than those that are followed."""
        for instance, told, _ in tuple(self._followed.values()):
            if _told_by(instance) != told:
                self.drop(instance)
        now = self._clock()
        wanted = [each for each in self._instances() if self._is_wanted(each)]
        self._due = {each.key: self._due.get(each.key, now) for each in wanted}
        turns = [each for each in wanted if self._due[each.key] <= now]
        self._due |= {each.key: now + AGAIN_SECS for each in turns}
        await gather_few(self._ask, turns, AT_ONCE)

    def _is_wanted(self, instance: Instance) -> bool:
        may_tell = bool(instance.registration.kv_events or instance.dialect.kv_sources_path)
        return may_tell and instance.health is Health.HEALTHY and instance.key not in self._followed

    async def _ask(self, instance: Instance) -> None:
        if not self._is_here(instance):
            return
        told = instance.registration.kv_events
        if told:
            self._follow(instance, read_told_sources(told, instance.registration.dp_size))
            return
        dialect = instance.dialect
        try:
            status, answer = await self._get_page(instance, dialect.kv_sources_path, TIME_LIMIT_SECS)
        except UpstreamError:
            return
        if status == 200 and self._is_here(instance):
            self._follow(instance, self._read(instance, answer))

    def _is_here(self, instance: Instance) -> bool:
        """Tell whether it wasn't lost since it was to be asked: nobody would tell that once more."""
        return instance.health is Health.HEALTHY and instance.key in self._due

    def _read(self, instance: Instance, answer: bytes) -> Sequence[KvEventSource]:
        try:
            return instance.dialect.read_kv_sources(answer)
        except Exception as error:  # noqa: BLE001  a third party's dialect
            where = f"{type(error).__name__} ({place_of(error)})"
            self._log.warn(f"The dialect {instance.dialect.name} failed in read_kv_sources for {instance.url}: {where}")
            return ()

    def _follow(self, instance: Instance, sources: Sequence[KvEventSource]) -> None:
        if not sources:
            return
        if other := next((source.host for source in sources if source.host not in ("", instance.host)), ""):
            # A registration, or an engine, must not have the router connect to wherever it likes.
            self._log.warn(f"{instance.url} tells KV events at another host, {other[:100]}: they aren't followed")
            return
        caches = self._caches.open(instance, len(sources))
        if not caches:
            return
        following: list[Following] = []
        try:
            for source, cache in zip(sources, caches, strict=True):
                following.append(self._follows.add(instance.host, source, cache))
        except OSError as error:
            self._log.warn(f"KV events of {instance.url} can't be followed: {error}")
            for each in following:
                each.close()
            self._caches.close(instance)
            return
        self._followed[instance.key] = instance, _told_by(instance), following
        ports = ", ".join(str(source.port) for source in sources)
        self._log.info(f"KV events of {instance.url} are followed, at port {ports}")

    def drop(self, instance: Instance) -> None:
        """Follow it no more: it is gone, or what it held is; healthy again, it is asked again."""
        self._due.pop(instance.key, None)
        *_, following = self._followed.pop(instance.key, (None, None, []))
        for each in following:
            each.close()
        if following:
            self._caches.close(instance)

    def __repr__(self) -> str:
        return f"<KvEventFollower of {len(self._followed)} instances>"


def _told_by(instance: Instance) -> _Told:
    return instance.registration.kv_events, instance.registration.dp_size
