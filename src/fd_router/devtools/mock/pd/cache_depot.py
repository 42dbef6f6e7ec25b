"""Where a prefill mock instance keeps KV caches until decode instances take them, each once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import msgspec

_REMEMBERED = 10_000


class Cache(msgspec.Struct, frozen=True):
    """A KV cache, of which only the size matters here, and for which prompt it is."""

    tokens: int = 0
    cached_tokens: int = 0
    digest: str = ""


class Taking(msgspec.Struct, frozen=True):
    """A decode instance's order: which cache, of which engine."""

    key: str
    engine_id: str = ""


OnCache = Callable[[Cache | None, str], None]
"""Gets the cache, or what is wrong."""


class CacheDepot:
    """Brings caches and those who take them together, whichever comes first; each waits ``wait_secs`` for the other."""

    def __init__(self, wait_secs: float) -> None:
        self._wait_secs = wait_secs
        self._loop = asyncio.get_running_loop()
        self._kept: dict[str, tuple[Cache, asyncio.TimerHandle]] = {}
        self._takers: dict[str, tuple[OnCache, asyncio.TimerHandle]] = {}
        self._ended: OrderedDict[str, str] = OrderedDict()  # key → what became of it
        self.taken = 0
        self.expired = 0  # caches that nobody took in time

    @property
    def kept(self) -> int:
        """Caches that wait to be taken."""
        return len(self._kept)

    @property
    def awaited(self) -> int:
        """Orders that wait for a cache."""
        return len(self._takers)

    def is_used(self, key: str) -> bool:
        """Whether a request had this key before."""
        return key in self._ended or key in self._kept

    def keep(self, key: str, cache: Cache) -> None:
        """Keep what was prefilled."""
        if (taker := self._takers.pop(key, None)) is not None:
            taker[1].cancel()
            self._hand(key, cache, taker[0])
        else:
            self._kept[key] = (cache, self._loop.call_later(self._wait_secs, self._expire, key))

    def take(self, key: str, on_cache: OnCache) -> None:
        """Have ``on_cache`` called with the cache called so, perhaps later."""
        if (kept := self._kept.pop(key, None)) is not None:
            kept[1].cancel()
            self._hand(key, kept[0], on_cache)
        elif key in self._ended:
            on_cache(None, f"its cache was {self._ended[key]}")
        else:
            self._takers[key] = (on_cache, self._loop.call_later(self._wait_secs, self._give_up, key))

    def drop(self, key: str, why: str) -> None:
        """There will be no such cache, or none any more."""
        if (kept := self._kept.pop(key, None)) is not None:
            kept[1].cancel()
        if (taker := self._takers.pop(key, None)) is not None:
            taker[1].cancel()
            taker[0](None, f"its cache was {why}")
        self._end(key, why)

    def close(self) -> None:
        """Wait for nothing any more."""
        for _, timer in (*self._kept.values(), *self._takers.values()):
            timer.cancel()

    def _hand(self, key: str, cache: Cache, on_cache: OnCache) -> None:
        self.taken += 1
        self._end(key, "taken already")
        on_cache(cache, "")

    def _expire(self, key: str) -> None:
        self.expired += 1
        self.drop(key, "not taken in time")

    def _give_up(self, key: str) -> None:
        on_cache, _ = self._takers.pop(key)
        on_cache(None, "no request for its prefill came in time")

    def _end(self, key: str, what: str) -> None:
        self._ended[key] = what
        if len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)

    def __repr__(self) -> str:
        return f"<CacheDepot kept={self.kept} awaited={self.awaited}>"
