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

    Whoever hears it believes his own probe alone: a router with a bad network would else take the fleet from all.
    """

    name = "verdicts"

    def __init__(self, registry: Registry, probe: Callable[[Instance], None], flush: Callable[[], None]) -> None:
        super().__init__()
        self._registry = registry
        self._probe = probe
        self._flush = flush
        registry.on_change(self._on_change)

    def take(self, process: str, payload: msgspec.Raw) -> None:  # noqa: ARG002
        """See ``Topic``."""
        for key, is_up in _decoder.decode(payload).items():
            instance = self._registry.get(key)
            if instance is not None and (instance.health is Health.HEALTHY) is not is_up:
                self._probe(instance)

    def _on_change(self, change: Change) -> None:
        if (is_up := _VERDICTS.get(change.kind)) is not None:
            self._news[change.instance.key] = is_up
            self._flush()
