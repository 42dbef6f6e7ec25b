"""The topic ``verdicts``: what a process found out of an instance's health: a reason to look, and no more."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Health, Instance
from fd_router.instances.registry import Registry
from fd_router.state.topic import NewsTopic

_decoder = msgspec.msgpack.Decoder(dict[str, bool])

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

    def forget(self, process: str) -> None:
        """See ``Topic``."""
        for key in tuple(self._down):
            self._drop(key, process)

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
