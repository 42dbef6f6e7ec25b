"""The prefix index of a router that isn't alone: what it learns goes to the others, and what they learn comes in."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fd_router.scheduling.prefix.index import Match, PrefixIndex
from fd_router.scheduling.prefix.nodes import KEY_BYTES, Edge, Holder, Tag, tag_of

AGAIN_SECONDS = 10.0
"""How often a prefix is told again that only is used: the others drop what is unused, after half an hour."""

MOST_NEWS = 20_000
"""Insertions that wait to be told; the oldest go first. While the bus is down nobody fetches them."""

SNAPSHOT_BLOCKS = 300_000
"""Blocks of one instance that a snapshot has, those used last; a newcomer learns the rest as everybody did."""

News = list[tuple[str, bytes]]
"""(instance, keys of a prompt)."""


class ToldPrefixIndex(PrefixIndex):
    """A prefix index that keeps what was inserted until ``take_news`` fetches it."""

    def __init__(
        self, clock: Callable[[], float], *, max_blocks: int, duration: float, instance_blocks: int = 0
    ) -> None:
        super().__init__(clock, max_blocks=max_blocks, duration=duration, instance_blocks=instance_blocks)
        self._news: News = []

    def insert(self, match: Match, name: str) -> None:
        """See ``PrefixIndex``; the others are told."""
        if match.blocks and not self._is_known(match, name):
            if len(self._news) >= MOST_NEWS:
                del self._news[: MOST_NEWS // 2]
            self._news.append((name, match.keys))
        super().insert(match, name)

    def take_news(self) -> News:
        """Return what was inserted here since the last call."""
        news, self._news = self._news, []
        return news

    def take(self, name: str, keys: bytes) -> None:
        """Insert what another router told."""
        super().insert(self.match(keys), name)

    def ends(self) -> Iterator[tuple[str, bytes]]:
        """Give (instance, keys) of every prefix that is no part of a longer one there, the least recently used first.

        The index may change between two of them.
        """
        for holder in tuple(self._holders.values()):
            for tag in _last_ends(holder):
                if (keys := _whole(tag.edge)) is not None:
                    yield holder.name, keys

    def _is_known(self, match: Match, name: str) -> bool:
        """Whether the others know that this instance holds this, and that it was used not long ago."""
        if match.depth < match.blocks:
            return False
        holder, edge = self._holders.get(name), match.last
        tag = tag_of(edge, holder) if holder is not None and edge is not None else None
        return tag is not None and self._clock() - tag.used < AGAIN_SECONDS


def _last_ends(holder: Holder) -> list[Tag]:
    """Return the holder's tags on edges below which it has none, the least recently used first."""
    found: list[Tag] = []
    blocks, tag = 0, holder.newest
    while tag is not None and blocks < SNAPSHOT_BLOCKS:
        edge = tag.edge
        blocks += edge.blocks
        if edge.children is None or not any(tag_of(child, holder) for child in edge.children.values()):
            found.append(tag)
        tag = tag.older
    found.reverse()
    return found


def _whole(edge: Edge) -> bytes | None:
    """Return the keys from the beginning to the end of an edge; None: it was dropped meanwhile."""
    runs = []
    at: Edge | None = edge
    while at is not None:
        runs.append(at.keys)
        at = at.parent
    keys = b"".join(reversed(runs))
    return keys if len(keys) == (edge.start + edge.blocks) * KEY_BYTES else None
