"""The topics ``verdicts`` and ``downs``: what a process found of instances' health: a reason to look, and no more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import msgspec

from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Health, Instance
from fd_router.instances.registry import Registry
from fd_router.state.topic import NewsTopic, Topic

EVERY = 5
"""A process tells all that is down there with each so manyeth of its whole frames: every 5 s."""

_decoder = msgspec.msgpack.Decoder(dict[str, bool])
_downs_decoder = msgspec.msgpack.Decoder(list[str])

_VERDICTS = {
    ChangeKind.SUSPECT: False,
    ChangeKind.DOWN: False,
    ChangeKind.UP: True,
    ChangeKind.FIRST_UP: True,
}


class SharedVerdicts(NewsTopic[bool]):
    """Tells when an instance goes down, or comes up, here, and has this process probe it when another tells so.

    Whoever hears it believes his own probe alone: a router with a bad network would else take the fleet from all. But
    as long as it says so he goes on to look, for its probes tell nobody of a change any more.
    """

    name = "verdicts"

    def __init__(self, registry: Registry, probe: Callable[[Instance], None], flush: Callable[[], None]) -> None:
        super().__init__()
        self._registry = registry
        self._probe = probe
        self._flush = flush
        self._down: dict[str, set[str]] = {}  # key → processes where it is down
        registry.on_change(self._on_change)

    def is_down_elsewhere(self, key: str) -> bool:
        """Whether another process found the instance with ``key`` to be down, and nothing else since."""
        return key in self._down

    def take(self, process: str, payload: msgspec.Raw) -> None:
        """See ``Topic``."""
        for key, is_up in _decoder.decode(payload).items():
            instance = self._registry.get(key)
            if instance is not None and not is_up:
                self._down.setdefault(key, set()).add(process)
            else:
                self._drop(key, process)
            if instance is not None and (instance.health is Health.HEALTHY) is not is_up:
                self._probe(instance)

    def know(self, process: str, keys: Collection[str]) -> None:
        """Take in that these, and no others, are down at another process."""
        for key in [key for key, processes in self._down.items() if process in processes and key not in keys]:
            self._drop(key, process)
        for key in keys:
            if self._registry.get(key) is not None:
                self._down.setdefault(key, set()).add(process)

    def forget(self, process: str) -> None:
        """See ``Topic``."""
        self.know(process, ())

    def _drop(self, key: str, process: str) -> None:
        if (processes := self._down.get(key)) is not None:
            processes.discard(process)
            if not processes:
                del self._down[key]

    def _on_change(self, change: Change) -> None:
        if change.kind is ChangeKind.REMOVED:
            self._down.pop(change.instance.key, None)
        if (is_up := _VERDICTS.get(change.kind)) is not None:
            self._news[change.instance.key] = is_up
            self._flush()


class SharedDowns(Topic):
    """Tells again and again what isn't healthy here, so that others who can reach it look for themselves.

    Verdicts are told once, when a health changes. One who came later hasn't heard them; and what a process never could
    reach, because its network is broken from the start, changes nothing there: nobody else would probe what is its own.
    The same goes for what can't be a member here though it is at others, which have another configuration.
    """

    name = "downs"

    def __init__(
        self, registry: Registry, verdicts: SharedVerdicts, refused: Callable[[], Iterable[str]] = tuple
    ) -> None:
        """``refused``: the keys of what can't be a member here."""
        self._registry = registry
        self._refused = refused
        self._verdicts = verdicts
        self._turns = 0

    def gather(self, *, whole: bool) -> bytes | None:
        """See ``Topic``."""
        self._turns += whole
        if not whole or self._turns % EVERY:
            return None
        down = [x.key for x in self._registry.all() if x.health is not Health.HEALTHY]
        return msgspec.msgpack.encode([*down, *self._refused()])

    def take(self, process: str, payload: msgspec.Raw) -> None:
        """See ``Topic``."""
        self._verdicts.know(process, frozenset(_downs_decoder.decode(payload)))
