"""The lookup where engines tell what they hold: theirs by their events, the others' by what they were sent.

Until an engine has told of a prompt that is on its way to it, what it was sent counts there too: the next prompt with
the same beginning should follow; and what a full cache evicts for it, which isn't told yet either, counts no more. A
cache of which not all was told goes by the more of the two.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from fd_router.scheduling.prefix.engine_blocks import EngineBlocks, EngineCache, Held
from fd_router.scheduling.prefix.index import Group, Match, PrefixIndex
from fd_router.scheduling.prefix.lookup import PrefixLookup
from fd_router.scheduling.prefix.nodes import tags_of
from fd_router.scheduling.prefix.on_their_way import PENDING_SECS
from fd_router.scheduling.request_view import RequestView

LOADING: Final = 0.75
"""What a block in host memory or on a disk counts, of one on the device: loading it is quicker than computing it."""

OnTruth = Callable[[int, int, int], None]
"""(tokens of a prompt, those that the index thought were held where it goes, those that are)."""


class ToldMatch(Match):
    """A match of which some holders are known by what they tell. To ``insert`` it is as any other."""

    __slots__ = ("_caches", "_groups", "depths", "evicting", "held", "names", "tokens")

    def __init__(
        self,
        match: Match,
        tokens: int,
        names: dict[int, list[int]],
        held: dict[str, Held],
        caches: Mapping[str, EngineCache],
    ) -> None:
        super().__init__(match.keys, match.take_path(), match.depth, branches=match.branches)
        self.tokens = tokens  # of the prompt
        self.names = names  # of its prefixes, by the size of blocks
        self.held = held  # by the name of a cache
        self.depths: dict[int, int] = {}  # blocks held, by holder
        self.evicting: set[str] = set()  # caches that hold more of it than they will
        self._caches = caches
        self._groups: list[Group] = []

    def set_depths(self, depths: dict[int, int]) -> None:
        """Take what each holder holds, in blocks of the index."""
        self.depths = depths
        self.known = max(depths.values(), default=0)
        holders: set[int] = set()
        by_depth: dict[int, list[int]] = {}
        for holder, depth in depths.items():
            by_depth.setdefault(depth, []).append(holder)
        for depth in sorted(by_depth, reverse=True):
            holders = holders.union(by_depth[depth])
            self._groups.append(Group(depth, holders))

    def is_told(self, name: str) -> bool:
        """See ``Match``."""
        cache = self._caches.get(name)
        return cache is not None and cache.is_whole

    def groups(self) -> Iterator[Group]:
        """See ``Match``."""
        return iter(self._groups)


class ToldLookup(PrefixLookup):
    """``on_truth`` is told how far off the index was, of each prompt that goes to an instance which tells all."""

    __slots__ = ("_blocks", "_clock", "_on_truth")

    def __init__(
        self,
        index: PrefixIndex,
        block_size: int,
        *,
        blocks: EngineBlocks,
        clock: Callable[[], float],
        on_truth: OnTruth,
    ) -> None:
        super().__init__(index, block_size)
        self._blocks = blocks
        self._clock = clock
        self._on_truth = on_truth
        self.insert = self._insert

    def find(self, request: RequestView) -> Match:
        """See ``PrefixLookup``. Without tokens there is nothing that engines' blocks could be compared with."""
        match = super().find(request)
        ids = request.token_ids
        if ids is None or not self._blocks.caches:
            return match
        return self._refined(match, ids, request.cache_seed)

    def _refined(self, match: Match, ids: array[int], seed: int) -> ToldMatch:
        names: dict[int, list[int]] = {}
        held: dict[str, Held] = {}
        caches = self._blocks.caches
        for cache in caches.values():
            if not (size := cache.block_size):
                continue
            if size not in names:
                names[size] = self._blocks.hasher(size).of_prompt(ids, seed)
            found = cache.held(names[size])
            if found.anywhere:
                held[cache.name] = found
        refined = ToldMatch(match, len(ids), names, held, caches)
        depths: dict[int, int] = {}
        now = self._clock()
        for name, each in held.items():
            cache = caches[name]
            depth = self._depth(each, cache.block_size, len(ids))
            if depth and cache.on_their_way and (left := self._left(refined, cache, depth, now)) < depth:
                refined.evicting.add(name)
                depth = left
            if depth:
                depths[self._index.holder_id(name)] = depth
        self._add_sent(refined, depths)
        refined.set_depths(depths)
        return refined

    def _depth(self, held: Held, size: int, tokens: int) -> int:
        """Return how many of the index's blocks that is. The last token of a prompt is always computed."""
        most = (tokens - 1) // size
        anywhere, on_device = min(held.anywhere, most), min(held.on_device, most)
        return int((on_device + (anywhere - on_device) * LOADING) * size) // self.block_size

    def _left(self, match: Match, cache: EngineCache, depth: int, now: float) -> int:
        """Return how many of ``depth`` blocks will be left when what is on its way there has its room.

        The least recently used go first, which the index knows: it has as many blocks as the cache, and forgot them
        when it noted those prompts. So many blocks as these take may be gone, not more, whatever it says.
        """
        if not cache.is_whole or not (room := cache.on_their_way.room(now)):
            return depth
        size, block_size = cache.block_size, self.block_size
        held = cache.size
        left = self._index.left(match, cache.name, held * size // block_size, (held + room) * size // block_size)
        return depth if left >= depth else max(left, depth - room * size // block_size)

    def _add_sent(self, match: ToldMatch, depths: dict[int, int]) -> None:
        """Add what was sent to those that don't tell, and to those that haven't told of it yet."""
        caches, since = self._blocks.caches, self._clock() - PENDING_SECS
        depth = match.depth
        for edge in reversed(match.path):
            for tag in tags_of(edge):
                cache = caches.get(tag.holder.name)
                if cache is not None and cache.is_whole and tag.used <= max(cache.on_their_way.settled, since):
                    continue
                if depths.get(tag.holder.id, 0) < depth:
                    depths[tag.holder.id] = depth
            depth = edge.start

    def _insert(self, match: Match, name: str) -> None:
        cache = self._blocks.caches.get(name)
        if cache is None or not isinstance(match, ToldMatch) or not cache.is_whole:
            self._index.insert(match, name)
            return
        size, holder = self.block_size, self._index.holder_id(cache.name)
        found = match.depths.get(holder, 0) * size  # tokens
        self._on_truth(match.tokens, match.sent_to(holder) * size, found)
        self._index.insert(match, name)
        names, held = match.names.get(cache.block_size, ()), match.held.get(name, NOTHING).anywhere
        if not cache.block_size or (names and (held < len(names) or name in match.evicting)):
            room = -(-(match.tokens - found) // cache.block_size) if cache.block_size else 0
            # Later than the index's note, so that what is told settles that, too.
            cache.on_their_way.sent(names[-1] if names else 0, self._clock(), room)


NOTHING: Final = Held(0, 0)
