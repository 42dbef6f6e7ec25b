"""A topic: one subject that processes tell each other of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

NewsT = TypeVar("NewsT")


def never_idle() -> bool:
    """Nobody knows whether requests are under way: look."""
    return False


class Topic:
    """What a process has to tell of one subject, and what it makes of what others tell.

    ``name`` stands in frames, so it never changes its meaning: a payload may get fields, and none may be taken away.
    ``is_hashes``: payloads are hashes, which nothing compresses. ``is_told_once``: what ``gather`` gave it doesn't give
    again, and it is true later, too: what couldn't be sent is sent when the bus is back.
    """

    name: str
    is_hashes = False
    is_told_once = False

    def gather(self, *, whole: bool) -> bytes | None:  # noqa: ARG002
        """Return what has changed since the last time, as msgpack; None: nothing. ``whole``: all that expires."""
        return None

    def take(self, process: str, payload: msgspec.Raw) -> None:
        """Take in what another process told. Raises msgspec.MsgspecError for what can't be read."""
        raise NotImplementedError

    def snapshot(self) -> Iterator[bytes]:
        """Give what a process that has just begun should know, in payloads of a size that holds up nobody."""
        yield from ()

    def forget(self, process: str) -> None:
        """A process is gone: what it told that was true of it alone is true no more."""


class NewsTopic(Topic, Generic[NewsT]):
    """A topic of what happens, told once: by key, the last of each between two frames."""

    is_told_once = True

    def __init__(self) -> None:
        self._news: dict[str, NewsT] = {}

    def gather(self, *, whole: bool) -> bytes | None:  # noqa: ARG002
        """See ``Topic``."""
        if not self._news:
            return None
        news, self._news = self._news, {}
        return msgspec.msgpack.encode(news)
