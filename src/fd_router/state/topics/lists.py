"""The topic ``lists``: whether processes' own lists name the same instances, for then one of them probes each."""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from fd_router.instances.registry import Registry
from fd_router.state.peers import Peers
from fd_router.state.rendezvous import chosen
from fd_router.state.topic import Topic

_decoder = msgspec.msgpack.Decoder(int)

_BITS = 63  # of a digest: what every reader of msgpack takes for a number


class SharedLists(Topic):
    """Finds out who probes an instance.

    One that registered itself is known to all, and falls to any of them. One that a list of this process names
    (``register.yaml``, a discovery) may not be known where a discovery is late, or fails: it falls to one of those
    whose lists name the same instances as this one's. Each tells a digest of its own, again and again.
    """

    name = "lists"

    def __init__(self, registry: Registry, peers: Peers) -> None:
        self._registry = registry
        self._peers = peers
        self._digests: dict[str, int] = {}  # by process
        self._weights: dict[str, int] = {}  # by key
        self._own = 0

    def owns(self, key: str) -> bool:
        """Whether the instance with ``key`` is for this process to probe."""
        instance = self._registry.get(key)
        if instance is None or not instance.source.is_list:
            return self._peers.owns(key)
        others = self._peers.others()
        alike = [process for process in others if self._digests.get(process) == self._own]
        if len(alike) == len(others):
            return self._peers.owns(key)
        return chosen(key, (self._peers.own, *alike)) == self._peers.own

    def gather(self, *, whole: bool) -> bytes | None:
        """See ``Topic``."""
        before = self._own
        if whole:
            self._own = self._digest()
        return msgspec.msgpack.encode(self._own) if whole and (self._own or before) else None

    def take(self, process: str, payload: msgspec.Raw) -> None:
        """See ``Topic``."""
        self._digests[process] = _decoder.decode(payload)

    def forget(self, process: str) -> None:
        """See ``Topic``."""
        self._digests.pop(process, None)

    def _digest(self) -> int:
        """Sum up what the lists name, whatever the order."""
        listed = [instance.key for instance in self._registry.all() if instance.source.is_list]
        self._weights = {key: self._weights.get(key) or _weight(key) for key in listed}
        return sum(self._weights.values()) % (1 << _BITS)

    def __repr__(self) -> str:
        return f"<SharedLists, {len(self._digests)} others told of theirs>"


def _weight(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest()) >> 1
