"""The live configuration: the options in force, which a reload replaces while the router runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from fd_router.config.sections import SECTIONS, Config

S = TypeVar("S", bound=msgspec.Struct)

_NAMES: Final[Mapping[type[msgspec.Struct], str]] = {struct: name for name, struct in SECTIONS.items()}


class LiveConfig:
    """Holds the one configuration that everybody goes by.

    An option that a reload may change is never copied: its reader asks ``current.section.option`` where it needs it.
    Where that would cost too much (once a chunk), or something has to be done about a change, the reader subscribes to
    the section instead. Both see a reload in the same step; nobody sees half of it.
    """

    __slots__ = ("_sleepers", "_subscribers", "current")

    def __init__(self, config: Config) -> None:
        self.current: Config = config
        """What is in force. Frozen: a reload puts another one here. Read only."""
        self._subscribers: dict[str, list[Callable[[Any], None]]] = {}
        self._sleepers: set[asyncio.Future[None]] = set()

    def subscribe(self, section: type[S], callback: Callable[[S], None]) -> None:
        """Call ``callback`` with the section at once, and again with each one that differs from the one before.

        ``section`` is its type: ``live.subscribe(ProxyConfig, self._on_proxy)``. The callback mustn't fail.
        """
        name = _NAMES[section]
        self._subscribers.setdefault(name, []).append(callback)
        callback(getattr(self.current, name))

    def replace(self, config: Config) -> None:
        """Put ``config`` in force, and tell those who subscribed to a section that it changes."""
        before, self.current = self.current, config
        for name, callbacks in self._subscribers.items():
            section = getattr(config, name)
            if section != getattr(before, name):
                for callback in callbacks:
                    callback(section)
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_result(None)

    async def sleep(self, seconds: Callable[[Config], float]) -> None:
        """Sleep for as long as an option says. One that is changed meanwhile counts from the beginning, at once."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while (left := begun + seconds(self.current) - loop.time()) > 0:
            sleeper: asyncio.Future[None] = loop.create_future()
            self._sleepers.add(sleeper)
            try:
                await asyncio.wait((sleeper,), timeout=left)
            finally:
                self._sleepers.discard(sleeper)

    def __repr__(self) -> str:
        return f"<LiveConfig {sum(map(len, self._subscribers.values()))} subscribers>"
