"""The topic ``loads``: how many requests and prompt tokens each process has at each instance, as absolute figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Protocol

import msgspec

from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Instance
from fd_router.state.gauges import SummedGauges, changes
from fd_router.state.topic import Topic, never_idle

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]

Counts = tuple[Count, Count]

NONE: Counts = (0, 0)


class Members(Protocol):
    """What it needs of a registry."""

    def get(self, key: str) -> Instance | None:
        """Return a member."""

    def all(self) -> tuple[Instance, ...]:
        """Return all members."""

    def removed_in_use(self) -> tuple[Instance, ...]:
        """Return those that are members no more, and have requests."""

    def on_change(self, listener: Callable[[Change], None], /) -> None:
        """Call ``listener`` after each change."""


class _Loads(msgspec.Struct, array_like=True):
    """``counts`` by key; ``whole``: there are no others, else those that have changed."""

    whole: bool
    counts: dict[str, Counts]


_decoder = msgspec.msgpack.Decoder(_Loads)


class SharedLoads(Topic):
    """Tells this process' counts, and gives instances the sum of the others'.

    Figures and no differences: a frame that was lost is made good by the next whole one, and what a process told is
    taken away as a whole when it is gone. A newcomer needs no snapshot: each process tells its own when it hears of it.
    """

    name = "loads"

    def __init__(self, registry: Members, is_idle: Callable[[], bool] = never_idle) -> None:
        """``is_idle``: whether no request is under way, which spares a look at all members; a whole message has one."""
        self._registry = registry
        self._is_idle = is_idle
        self._told: dict[str, Counts] = {}  # what the others know of this process
        self._others = SummedGauges(2, self._apply)
        registry.on_change(self._on_change)

    def gather(self, *, whole: bool) -> bytes | None:
        """See ``Topic``."""
        if not whole and not self._told and self._is_idle():
            return None
        now: dict[str, Counts] = {}
        members = (*self._registry.all(), *self._registry.removed_in_use())
        for instance in [each for each in members if each.running or each.tokens]:  # few of a thousand, many times
            own = instance.running - instance.running_elsewhere, instance.tokens - instance.tokens_elsewhere
            if own != NONE:
                now[instance.key] = own if min(own) >= 0 else (max(0, own[0]), max(0, own[1]))
        told, self._told = self._told, now
        changed = now if whole else changes(told, now, 2)
        return msgspec.msgpack.encode((whole, changed)) if whole or changed else None

    def take(self, process: str, payload: msgspec.Raw) -> None:
        """See ``Topic``."""
        loads = _decoder.decode(payload)
        self._others.take(process, loads.counts, whole=loads.whole)

    def forget(self, process: str) -> None:
        """See ``Topic``."""
        self._others.forget(process)

    def _apply(self, key: str, sums: Sequence[float]) -> None:
        instance = self._registry.get(key)
        if instance is not None:
            instance.count_elsewhere(int(sums[0]), int(sums[1]))

    def _on_change(self, change: Change) -> None:
        """An instance that is no member any more has nothing of others; one that becomes a member may have."""
        if change.kind is ChangeKind.REMOVED:
            change.instance.count_elsewhere(0, 0)
        elif change.kind is ChangeKind.ADDED:
            self._apply(change.instance.key, self._others.sums(change.instance.key))

    def __repr__(self) -> str:
        return f"<SharedLoads, others: {self._others!r}>"
