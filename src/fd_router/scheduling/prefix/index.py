"""The prefix index: which instance was sent which prefixes, in a radix tree tagged with the time of last use.

A key of eight bytes names a whole prefix (see ``block_hashes``), so a run of blocks that nobody leaves half-way is
one edge, and two runs are equal as far as the last pair of equal keys: whole edges are compared at once, a
difference is found by halving. Nothing loops over blocks.

An instance (*holder*) that holds a prefix holds all shorter ones. This stays true because a use touches a path from
its end to its root, and what is used least recently is dropped first: always an end. Changes go
through ``insert``, ``remove`` and ``set_limit``, which a delta from another process could call as well.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Iterator, Sequence

import msgspec

from fd_router.scheduling.prefix.nodes import KEY_BYTES, Edge, Holder, Tag, link_after, tag_of, tags_of, unlink

CHARACTERS_PER_TOKEN = 3
"""Without a tokenizer an instance's cache holds so many characters for each of its tokens, about."""

PURGED_AT_ONCE = 16
"""Tags of removed instances that are freed with each insertion: removing must not hold up requests."""

_BLOCKS_PER_TAG = 2.5
"""Blocks of the limit for each tag allowed: a tag with its edge takes some 300 bytes, however short the edge."""

_LOOKED_AT = 16  # tags, for a question, at most
_FULL = 0.9  # an instance of which less is remembered, of all that it could hold, may hold what isn't remembered
_BYTES_PER_TAG = 300
"""Of a tag and its share of an edge, measured for short prompts."""


class Group(msgspec.Struct, frozen=True, gc=False):
    """Instances that hold the first ``depth`` blocks of a prompt. Made in a tenth of a named tuple's time."""

    depth: int
    holders: Collection[int]


class Match:
    """How far a prompt is known. Good for one ``insert``, as long as the index wasn't changed otherwise."""

    __slots__ = ("_path", "blocks", "branches", "depth", "keys", "known")

    def __init__(self, keys: bytes, path: list[Edge], depth: int, *, branches: bool) -> None:
        self.keys = keys
        self.branches = branches  # whether another prompt goes on otherwise behind what is known
        self.blocks = len(keys) // KEY_BYTES  # of the prompt
        self.depth = self.known = depth  # of these, those in the tree; and those that anybody holds
        self._path = path

    def groups(self) -> Iterator[Group]:
        """Give who holds how much, the deepest first. A group contains those before it; equal ones come once."""
        depth, before = self.depth, 0
        for edge in reversed(self._path):
            holders: Collection[int] = edge.tags if edge.tags is not None else (edge.tag.holder.id,) if edge.tag else ()
            if len(holders) > before:
                before = len(holders)
                yield Group(depth, holders)
            depth = edge.start

    def is_told(self, name: str) -> bool:  # noqa: ARG002
        """Whether what ``name`` holds was told by its engine."""
        return False

    @property
    def last(self) -> Edge | None:
        """The edge where what is known ends."""
        return self._path[-1] if self._path else None

    @property
    def path(self) -> Sequence[Edge]:
        """The edges that the prompt goes along, from the root on."""
        return self._path

    def sent_to(self, holder: int) -> int:
        """Return how many of the prompt's blocks the holder of this number is tagged with."""
        depth = self.depth
        for edge in reversed(self._path):
            if holder in edge.tags if edge.tags is not None else edge.tag is not None and edge.tag.holder.id == holder:
                return depth
            depth = edge.start
        return 0

    def take_path(self) -> list[Edge]:
        """Hand the path over to the index."""
        path, self._path = self._path, []
        return path


class PrefixIndex:
    """The tree. ``max_blocks`` is a hard limit on its nodes; ``duration`` the seconds an unused one is kept."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        max_blocks: int = 1_000_000,
        duration: float = 1800.0,
        instance_blocks: int = 0,
    ) -> None:
        self._clock = clock
        self._max_blocks = max_blocks
        self._max_tags = max(16, int(max_blocks / _BLOCKS_PER_TAG))
        self._duration = duration
        self._default_limit = instance_blocks or math.inf
        self.has_instance_limit = instance_blocks > 0  # one that somebody knows, so that nobody has to learn it
        self._root = Edge(b"", 0)
        self._holders: dict[str, Holder] = {}
        self._removed: list[Holder] = []  # with tags still to be freed
        self._heap: list[tuple[float, int, Holder]] = []  # times not later than those of the oldest tags
        self._last_id = 0
        self.blocks = 0
        self.tags = 0
        self.version = 0  # changes when an instance comes or goes
        self.forgotten = dict.fromkeys(("instance_limit", "limit", "age", "gone"), 0)  # blocks of instances, by reason

    # reading

    def match(self, keys: bytes) -> Match:
        """Find the longest known prefix."""
        path: list[Edge] = []
        edge, at, size, branches = self._root, 0, len(keys), False
        while at < size and edge.children is not None:
            child = edge.children.get(keys[at : at + KEY_BYTES])
            if child is None:
                branches = at > 0
                break
            path.append(child)
            length = len(child.keys)
            common = min(length, size - at)
            if child.keys[common - KEY_BYTES : common] != keys[at + common - KEY_BYTES : at + common]:
                at += _common(child.keys, keys, at, common)
                branches = True
                break
            at += common
            if common < length:
                break
            edge = child
        return Match(keys, path, at // KEY_BYTES, branches=branches)

    def id_of(self, name: str) -> int:
        """Return the number by which groups name an instance, 0 when it holds nothing."""
        holder = self._holders.get(name)
        return holder.id if holder is not None else 0

    def holder_id(self, name: str) -> int:
        """Return the same, and never 0: from now on it is known."""
        return self._holder(name).id

    def blocks_of(self, name: str) -> int:
        """Return how many blocks an instance is tagged with."""
        holder = self._holders.get(name)
        return holder.blocks if holder is not None else 0

    def fullness(self, name: str) -> float:
        """Return the share of its limit that an instance is tagged with, 0.0 where it has none."""
        holder = self._holders.get(name)
        return holder.blocks / holder.limit if holder is not None else 0.0

    def left(self, match: Match, name: str, held: int, wanted: int) -> int:
        """Return how many of a prompt's blocks an instance has when it has evicted what it must for ``wanted`` blocks.

        It holds ``held`` before and after. Of what is remembered beyond these, what was used least recently goes too.
        All of them where it has room, or where too little is remembered of it to know what it used when.
        """
        holder = self._holders.get(name)
        if holder is None or wanted <= holder.limit or holder.blocks < _FULL * holder.limit:
            return match.blocks
        left, path, more, tag = match.sent_to(holder.id), match.path, holder.blocks - held, holder.oldest
        for _ in range(_LOOKED_AT):
            if tag is None or more <= 0:
                break
            edge = tag.edge
            if edge in path:
                beyond = max(0, edge.start + edge.blocks - match.depth)  # goes before what the prompt has in common
                left -= max(0, min(more, edge.blocks) - beyond)
            more -= edge.blocks
            tag = tag.newer
        return left

    @property
    def bytes_estimate(self) -> int:
        """Return what the tree takes in memory, about: eight bytes a key, and objects."""
        return self.blocks * KEY_BYTES + self.tags * _BYTES_PER_TAG

    # changing

    def insert(self, match: Match, name: str) -> None:
        """Note that the instance ``name`` was sent the prompt of ``match`` now."""
        if not match.blocks:
            return
        holder, now = self._holder(name), self._clock()
        path = match.take_path()
        if path and path[-1].start + path[-1].blocks > match.depth:
            path[-1] = self._split(path[-1], match.depth)
        if match.depth < match.blocks:
            self._grow(path, match, holder)
        for edge in reversed(path):
            self._touch(edge, holder, now)
        if self._removed:
            self._purge(PURGED_AT_ONCE)
        self._shrink(holder)

    def remove(self, name: str) -> None:
        """Forget an instance: from now on it holds nothing, and when it comes back it begins anew."""
        holder = self._holders.pop(name, None)
        if holder is not None:
            self.version += 1
            if holder.oldest is not None:
                self._removed.append(holder)

    def set_limit(self, name: str, blocks: int) -> None:
        """Remember no more than ``blocks`` for an instance, since its own cache holds no more. 0 = no limit."""
        holder = self._holder(name)
        holder.limit = blocks or math.inf
        self._shrink(holder)

    def sweep(self, most: int = 1000) -> bool:
        """Drop what was unused for too long, ``most`` tags at a time. Returns whether there may be more."""
        most = self._purge(most)
        cutoff = self._clock() - self._duration
        for _ in range(most):
            tag = self._oldest()
            if tag is None or tag.used > cutoff:
                return False
            self.forgotten["age"] += tag.edge.blocks
            self._untag(tag)
        return True

    # instances

    def _holder(self, name: str) -> Holder:
        holder = self._holders.get(name)
        if holder is None:
            self._last_id += 1
            self.version += 1
            holder = self._holders[name] = Holder(self._last_id, name, limit=self._default_limit)
        return holder

    # growing

    def _grow(self, path: list[Edge], match: Match, holder: Holder) -> None:
        """Append the unknown blocks: to the last edge where that is an end of this instance alone, else as an edge."""
        keys = match.keys[match.depth * KEY_BYTES :]
        count = match.blocks - match.depth
        self.blocks += count
        parent = path[-1] if path else self._root
        if parent.tag is not None and parent.tag.holder is holder and parent.children is None:
            parent.keys += keys
            holder.blocks += count
            return
        edge = Edge(keys, match.depth, parent)
        if parent.children is None:
            parent.children = {}
        parent.children[keys[:KEY_BYTES]] = edge
        path.append(edge)

    def _split(self, edge: Edge, depth: int) -> Edge:
        """Cut an edge in two at ``depth``; it becomes the lower part, the upper one is returned."""
        cut = (depth - edge.start) * KEY_BYTES
        upper, parent = Edge(edge.keys[:cut], edge.start, edge.parent), edge.parent
        assert parent is not None
        assert parent.children is not None
        parent.children[edge.keys[:KEY_BYTES]] = upper
        edge.keys, edge.start, edge.parent = edge.keys[cut:], depth, upper
        upper.children = {edge.keys[:KEY_BYTES]: edge}
        for tag in tags_of(edge):
            copy = Tag(tag.holder, upper, tag.used)
            link_after(copy, tag)
            self._attach(copy, upper)
        return upper

    def _touch(self, edge: Edge, holder: Holder, now: float) -> None:
        tag = tag_of(edge, holder)
        if tag is None:
            tag = Tag(holder, edge, now)
            holder.blocks += edge.blocks
            self._attach(tag, edge)
        elif tag is holder.newest:
            tag.used = now
            return
        else:
            unlink(tag)
            tag.used = now
        link_after(tag, holder.newest)
        if not holder.is_queued:
            holder.is_queued = True
            heapq.heappush(self._heap, (now, holder.id, holder))

    def _attach(self, tag: Tag, edge: Edge) -> None:
        self.tags += 1
        if edge.tags is not None:
            edge.tags[tag.holder.id] = tag
        elif edge.tag is None:
            edge.tag = tag
        else:
            edge.tags = {edge.tag.holder.id: edge.tag, tag.holder.id: tag}
            edge.tag = None

    # shrinking

    def _shrink(self, holder: Holder) -> None:
        """Keep the three limits, dropping what was used least recently."""
        while holder.blocks > holder.limit and holder.oldest is not None:
            self._drop(holder.oldest, int(holder.blocks - holder.limit), "instance_limit")
        while self.blocks > self._max_blocks and (tag := self._oldest()) is not None:
            self._drop(tag, self.blocks - self._max_blocks if tag.edge.tag is tag else tag.edge.blocks, "limit")
        while self.tags > self._max_tags and (tag := self._oldest()) is not None:
            self._drop(tag, tag.edge.blocks, "limit")

    def _oldest(self) -> Tag | None:
        """Find the tag used least recently; those of removed instances come before all."""
        while self._removed:
            if (tag := self._removed[-1].oldest) is not None:
                return tag
            self._removed.pop()
        while self._heap:
            used, _, holder = self._heap[0]
            tag = holder.oldest if self._holders.get(holder.name) is holder else None
            if tag is None:
                holder.is_queued = False
                heapq.heappop(self._heap)
            elif tag.used > used:
                heapq.heapreplace(self._heap, (tag.used, holder.id, holder))
            else:
                return tag
        return None

    def _purge(self, most: int) -> int:
        """Free tags of removed instances, ``most`` at a time. Returns how many more there could have been."""
        while most and self._removed:
            tag = self._removed[-1].oldest
            if tag is None:
                self._removed.pop()
            else:
                self.forgotten["gone"] += tag.edge.blocks
                self._untag(tag)
                most -= 1
        return most

    def _drop(self, tag: Tag, blocks: int, reason: str) -> None:
        """Take a tag off the last ``blocks`` blocks of its edge (all, when it has no more)."""
        edge = tag.edge
        keep = edge.blocks - blocks
        self.forgotten[reason] += min(blocks, edge.blocks)
        if keep <= 0:
            self._untag(tag)
        elif edge.tag is tag and edge.children is None:
            edge.keys = edge.keys[: keep * KEY_BYTES]
            tag.holder.blocks -= blocks
            self.blocks -= blocks
        else:
            self._split(edge, edge.start + keep)
            self._untag(tag)

    def _untag(self, tag: Tag) -> None:
        """Take a tag off its edge, which goes with its last one."""
        edge, holder = tag.edge, tag.holder
        unlink(tag)
        holder.blocks -= edge.blocks
        self.tags -= 1
        if edge.tags is None:
            edge.tag = None
            self._delete(edge)
            return
        del edge.tags[holder.id]
        if len(edge.tags) == 1:
            (edge.tag,) = edge.tags.values()
            edge.tags = None

    def _delete(self, edge: Edge) -> None:
        parent = edge.parent
        assert parent is not None
        assert parent.children is not None
        del parent.children[edge.keys[:KEY_BYTES]]
        if not parent.children:
            parent.children = None
        edge.parent = None
        self.blocks -= edge.blocks

    def __repr__(self) -> str:
        return f"<PrefixIndex {self.blocks} blocks, {self.tags} tags, {len(self._holders)} instances>"


def _common(edge_keys: bytes, keys: bytes, at: int, length: int) -> int:
    """Return how many bytes are equal, given that the first key is and the last of ``length`` bytes isn't."""
    equal, different = 1, length // KEY_BYTES
    while different - equal > 1:
        middle = (equal + different) // 2
        place = (middle - 1) * KEY_BYTES
        if edge_keys[place : place + KEY_BYTES] == keys[at + place : at + place + KEY_BYTES]:
            equal = middle
        else:
            different = middle
    return equal * KEY_BYTES
