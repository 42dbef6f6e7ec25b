"""What the prefix index is made of: runs of blocks, instances, and the marks of one on the other."""

from __future__ import annotations

import math

import msgspec

KEY_BYTES = 8
"""Bytes of a key, as ``block_hashes`` makes them."""


# Without garbage collection: a tree of a million objects would stop the router for each full collection. Everything
# that is dropped is unlinked by hand.
class Edge(msgspec.Struct, gc=False, eq=False):
    """A run of blocks. ``tag`` when one instance holds it (the usual case, and the smaller), else ``tags``."""

    keys: bytes
    start: int  # blocks before the first one
    parent: Edge | None = None
    children: dict[bytes, Edge] | None = None
    tag: Tag | None = None
    tags: dict[int, Tag] | None = None

    @property
    def blocks(self) -> int:
        """How many blocks the run has."""
        return len(self.keys) // KEY_BYTES


class Tag(msgspec.Struct, gc=False, eq=False):
    """One instance's mark on an edge, a link in its list by time of use."""

    holder: Holder
    edge: Edge
    used: float
    older: Tag | None = None
    newer: Tag | None = None


class Holder(msgspec.Struct, gc=False, eq=False):
    """An instance, from its first prefix until it is removed; back again, it is another one."""

    id: int
    name: str
    blocks: int = 0
    limit: float = math.inf
    oldest: Tag | None = None
    newest: Tag | None = None
    is_queued: bool = False  # has an entry in the index's heap


def tags_of(edge: Edge) -> list[Tag]:
    """Return all tags of an edge."""
    if edge.tags is not None:
        return list(edge.tags.values())
    return [edge.tag] if edge.tag is not None else []


def tag_of(edge: Edge, holder: Holder) -> Tag | None:
    """Return a holder's tag on an edge, if there is one."""
    if edge.tags is not None:
        return edge.tags.get(holder.id)
    return edge.tag if edge.tag is not None and edge.tag.holder is holder else None


def link_after(tag: Tag, older: Tag | None) -> None:
    """Put a tag into its holder's list behind ``older``."""
    holder = tag.holder
    newer = older.newer if older is not None else holder.oldest
    tag.older, tag.newer = older, newer
    if older is None:
        holder.oldest = tag
    else:
        older.newer = tag
    if newer is None:
        holder.newest = tag
    else:
        newer.older = tag


def unlink(tag: Tag) -> None:
    """Take a tag out of its holder's list."""
    older, newer, holder = tag.older, tag.newer, tag.holder
    if older is None:
        holder.oldest = newer
    else:
        older.newer = newer
    if newer is None:
        holder.newest = older
    else:
        newer.older = older
    tag.older = tag.newer = None
