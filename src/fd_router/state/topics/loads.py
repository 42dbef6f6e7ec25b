"""The topic ``loads``: how many requests and prompt tokens each process has at each instance, as absolute figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.registry import Registry
from fd_router.state.topic import Topic

Counts = tuple[int, int]
_NONE: Counts = (0, 0)


class _Loads(msgspec.Struct, array_like=True):
    """``counts`` by key; ``whole``: there are no others, else those that have changed."""

    whole: bool
    counts: dict[str, Counts]


_decoder = msgspec.msgpack.Decoder(_Loads)


class SharedLoads(Topic):
    """Tells this process' counts, and gives instances the sum of the others'.

    Figures and no differences: a frame that was lost is made good by the next whole one, and what a process told is
    taken away as a whole when it is gone.
    """

    name = "loads"

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._told: dict[str, Counts] = {}  # what the others know of this process
        self._of: dict[str, dict[str, Counts]] = {}  # process → key → counts
        self._sums: dict[str, list[int]] = {}  # key → those of all others
        registry.on_change(self._on_change)

    def gather(self, *, whole: bool) -> bytes | None:
        """See ``Topic``."""
        now: dict[str, Counts] = {}
        for instance in (*self._registry.all(), *self._registry.removed_in_use()):
            if instance.running != instance.running_elsewhere or instance.tokens != instance.tokens_elsewhere:
                now[instance.key] = max(0, instance.own_running), max(0, instance.own_tokens)
        told, self._told = self._told, now
        if whole:
            return msgspec.msgpack.encode(_Loads(True, now))
        changed = {key: counts for key, counts in now.items() if told.get(key) != counts}
        changed.update(dict.fromkeys(told.keys() - now.keys(), _NONE))
        return msgspec.msgpack.encode(_Loads(False, changed)) if changed else None

    def take(self, process: str, payload: msgspec.Raw) -> None:
        """See ``Topic``."""
        loads = _decoder.decode(payload)
        known = self._of.setdefault(process, {})
        if loads.whole:
            self._replace(known, loads.counts)
        else:
            for key, counts in loads.counts.items():
                self._set(known, key, counts)

    def snapshot(self) -> Iterator[bytes]:
        """Nothing: a newcomer makes each process tell its own at once."""
        yield from ()

    def forget(self, process: str) -> None:
        """See ``Topic``."""
        known = self._of.pop(process, None)
        if known is not None:
            self._replace(known, {})

    def _replace(self, known: dict[str, Counts], counts: Mapping[str, Counts]) -> None:
        for key in known.keys() - counts.keys():
            self._set(known, key, _NONE)
        for key, each in counts.items():
            self._set(known, key, each)

    def _set(self, known: dict[str, Counts], key: str, counts: Counts) -> None:
        before = known.get(key, _NONE)
        if counts == before:
            return
        if counts == _NONE:
            del known[key]
        else:
            known[key] = counts
        sums = self._sums.setdefault(key, [0, 0])
        sums[0] += counts[0] - before[0]
        sums[1] += counts[1] - before[1]
        self._apply(key, sums)
        if sums == [0, 0]:
            del self._sums[key]

    def _apply(self, key: str, sums: list[int]) -> None:
        instance = self._registry.get(key)
        if instance is not None:
            instance.count_elsewhere(sums[0], sums[1])

    def _on_change(self, change: Change) -> None:
        """An instance that is no member any more has nothing of others; one that becomes a member may have."""
        key = change.instance.key
        if change.kind is ChangeKind.REMOVED:
            change.instance.count_elsewhere(0, 0)
        elif change.kind is ChangeKind.ADDED and key in self._sums:
            self._apply(key, self._sums[key])

    def __repr__(self) -> str:
        return f"<SharedLoads of {len(self._of)} others at {len(self._sums)} instances>"
