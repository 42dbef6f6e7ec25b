"""Event steps: what an engine told of a cache, in as few steps as it takes to do the same.

An engine tells each block that is evicted by an event of its own, while many are evicted together: looking at each
costs more than letting a cache hold them no more.
"""

from __future__ import annotations

from collections.abc import Sequence

from fd_router.engines.kv_events import AllBlocksCleared, BlockRemoved, BlockStored, KvEvent


class Removing:
    """Blocks of one medium and group that were evicted one after the other."""

    __slots__ = ("blocks", "group", "medium")

    def __init__(self, event: BlockRemoved) -> None:
        self.medium = event.medium
        self.group = event.group_idx
        self.blocks = list(event.block_hashes)


class Storing:
    """Blocks that were stored; of the first ``good`` ones the tokens are known."""

    __slots__ = ("event", "good")

    def __init__(self, event: BlockStored) -> None:
        self.event = event
        self.good = 0


Step = Storing | Removing | AllBlocksCleared
"""What happened to a cache at a time."""


def steps_of(events: Sequence[KvEvent]) -> list[Step]:
    """Return the steps in which these events are taken in, one after the other."""
    steps: list[Step] = []
    last: Removing | None = None
    medium: str | None = None
    group: int | None = None
    for event in events:
        if isinstance(event, BlockRemoved):
            if last is not None and event.medium == medium and event.group_idx == group:
                last.blocks += event.block_hashes
                continue
            last = Removing(event)
            medium, group = last.medium, last.group
            steps.append(last)
            continue
        last = None
        steps.append(Storing(event) if isinstance(event, BlockStored) else event)
    return steps
