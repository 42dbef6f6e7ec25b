"""The part of the composition root that learns of instances' caches: their sizes, and ranks with one each."""

from __future__ import annotations

from collections.abc import Callable

from fd_router.engines.cache_facts import CacheFacts
from fd_router.instances.instance import Instance
from fd_router.scheduling.prefix.index import PrefixIndex
from fd_router.scheduling.ranks import Ranks


class Caches:
    """Bounds what the prefix index remembers of each cache by its size, and notes the ranks of instances.

    ``index_blocks`` makes of (tokens, engine's blocks) the index's blocks; None: its limits are somebody else's.
    """

    def __init__(
        self,
        index: PrefixIndex,
        ranks: Ranks[Instance] | None,
        index_blocks: Callable[[int, int], int] | None,
        log: Callable[[str], None],
    ) -> None:
        self._index = index
        self._ranks = ranks
        self._index_blocks = index_blocks
        self._log = log
        self._limits: dict[str, tuple[int, int]] = {}  # by name: the index's number for it, and the limit that was set

    def on_facts(self, instance: Instance, facts: CacheFacts) -> None:
        """Take in what the engine told."""
        self.note_ranks(instance, facts.ranks)
        if self._index_blocks is None:
            return
        blocks = self._index_blocks(facts.tokens, facts.blocks)
        for name in self.names(instance):
            self._limit(name, blocks)

    def note_ranks(self, instance: Instance, told: int = 1) -> None:
        """Note how many ranks there are: as many as the registration says, else as the engine told."""
        ranks = self._ranks
        if ranks is None or not instance.dialect.has_ranks:
            return
        size = instance.registration.dp_size or told
        before = self.names(instance)
        if ranks.set(instance, size):
            for name in before:
                self._forget(name)
            self._log(f"{instance.url} has {size} data-parallel rank{'s' if size > 1 else ''}, each a candidate")

    def names(self, instance: Instance) -> tuple[str, ...]:
        """Return the names by which policies know ``instance``."""
        return (instance.url,) if self._ranks is None else tuple(self._ranks.names(instance))

    def on_lost(self, instance: Instance) -> None:
        """What it held is gone."""
        for name in self.names(instance):
            self._forget(name)

    def on_removed(self, instance: Instance) -> None:
        """It is no member any more."""
        if self._ranks is not None:
            self._ranks.forget(instance)

    def _forget(self, name: str) -> None:
        self._index.remove(name)
        self._limits.pop(name, None)

    def _limit(self, name: str, blocks: int) -> None:
        """Set it once, and again where the index has forgotten the name since, or more was told than before.

        In between it may be moved by who learns of the size from what is cached, and what isn't.
        """
        number, limit = self._limits.get(name, (0, 0))
        if blocks and (not number or number != self._index.id_of(name) or blocks > limit):
            self._index.set_limit(name, blocks)
            self._limits[name] = self._index.id_of(name), blocks

    def __repr__(self) -> str:
        return f"<Caches: {len(self._limits)} limits, {self._ranks!r}>"
