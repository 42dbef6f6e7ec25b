"""Cache sizes: how much a prefix cache holds, learnt where less, or more, was cached than the index said."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fd_router.scheduling.prefix.index import PrefixIndex

STEP = 0.06
"""How far one piece of evidence moves a size."""

NEARLY = 0.9
"""An index that holds less than this share of its limit isn't held back by it: a surprise tells nothing of the size."""

LEAST_STEP = 16
"""Blocks; so that a size that was found to be nothing can grow again."""


class CacheSizes:
    """Sets the index's limit for each instance so that what it remembers is what is still cached there.

    With a limit above the instance's size some prefixes that the index knows are evicted there; with one below it some
    that it has dropped are found. At the right one neither happens, and around it the steps cancel out. An instance
    begins without a limit.
    """

    __slots__ = ("_ids", "_index", "_limits", "on_learnt")

    def __init__(self, index: PrefixIndex) -> None:
        self.on_learnt: Callable[[str, float], None] = _nobody
        self._index = index
        self._limits: dict[str, float] = {}  # blocks, by URL
        self._ids: dict[str, int] = {}  # under which number the index had the limit set

    def keep(self, url: str) -> None:
        """Set the limit again if the index has forgotten the instance since, because it was away."""
        if url in self._ids and self._ids[url] != self._index.id_of(url):
            self._set(url, self._limits[url])

    def missed(self, url: str) -> None:
        """Much that the index knew wasn't cached any more."""
        held = self._index.blocks_of(url)
        limit = self._limits.get(url)
        if limit is None or held > NEARLY * limit:
            self._learn(url, min(held, limit or held) * (1 - STEP))

    def found(self, url: str) -> None:
        """Much was cached that the index didn't know."""
        limit = self._limits.get(url)
        if limit is not None and self._index.blocks_of(url) > NEARLY * limit:
            self._learn(url, max(limit * (1 + STEP), limit + LEAST_STEP))

    @property
    def learnt(self) -> Mapping[str, float]:
        """The sizes, in blocks, by URL."""
        return self._limits

    def adopt(self, url: str, limit: float) -> None:
        """Go by what another router has learnt."""
        self._set(url, limit)

    def forget(self, url: str) -> None:
        """The instance is gone for good."""
        self._limits.pop(url, None)
        self._ids.pop(url, None)

    def _learn(self, url: str, limit: float) -> None:
        self._set(url, limit)
        self.on_learnt(url, self._limits[url])

    def _set(self, url: str, limit: float) -> None:
        self._limits[url] = limit = max(1.0, limit)
        self._index.set_limit(url, int(limit))
        self._ids[url] = self._index.id_of(url)

    def __repr__(self) -> str:
        return f"<CacheSizes {', '.join(f'{url}: {limit:.0f}' for url, limit in self._limits.items())}>"


def _nobody(url: str, limit: float, /) -> None:
    """A router that is alone tells nobody."""
