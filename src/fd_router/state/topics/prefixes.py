"""The topic ``prefixes``: which instance was sent which beginnings of prompts, as hashes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from fd_router.state.topic import Topic

KEY_BYTES = 8
MAX_KEYS = 1 << 16
"""Blocks of one prompt: no prompt has more."""

PART_BYTES = 256 << 10
"""Of one part of a snapshot."""


class Index(Protocol):
    """A prefix index; see ``scheduling.prefix.told_index``."""

    def take_news(self) -> list[tuple[str, bytes]]:
        """Return what was inserted here."""

    def take(self, name: str, keys: bytes) -> None:
        """Insert what another router told."""

    def ends(self) -> Iterator[tuple[str, bytes]]:
        """Give all that is known."""


class _Prefixes(msgspec.Struct, array_like=True):
    """``entries``: (instance, keys). ``scheme``: how prompts become keys: with others they mean nothing here."""

    scheme: str
    entries: list[tuple[str, bytes]]


_decoder = msgspec.msgpack.Decoder(_Prefixes)


class SharedPrefixes(Topic):
    """Tells what this process' policies sent where, and puts into its index what the others sent."""

    name = "prefixes"
    is_hashes = True

    def __init__(self, index: Index, scheme: str, is_member: Callable[[str], bool]) -> None:
        """``is_member``: whether there is an instance with this URL: else what it holds is no use."""
        self._index = index
        self._scheme = scheme
        self._is_member = is_member

    def gather(self, *, whole: bool) -> bytes | None:  # noqa: ARG002
        """See ``Topic``."""
        news = self._index.take_news()
        return self._written(news) if news else None

    def take(self, process: str, payload: msgspec.Raw) -> None:  # noqa: ARG002
        """See ``Topic``."""
        prefixes = _decoder.decode(payload)
        if prefixes.scheme != self._scheme:
            return
        for name, keys in prefixes.entries:
            if len(keys) % KEY_BYTES == 0 and len(keys) <= MAX_KEYS * KEY_BYTES and self._is_member(name):
                self._index.take(name, keys)

    def snapshot(self) -> Iterator[bytes]:
        """See ``Topic``."""
        entries, size = [], 0
        for name, keys in self._index.ends():
            entries.append((name, keys))
            size += len(keys)
            if size >= PART_BYTES:
                yield self._written(entries)
                entries, size = [], 0
        if entries:
            yield self._written(entries)

    def _written(self, entries: list[tuple[str, bytes]]) -> bytes:
        return msgspec.msgpack.encode(_Prefixes(self._scheme, entries))
