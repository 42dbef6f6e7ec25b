"""The topic ``sessions``: browsers that have shown the admin token to one of a host's workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from fd_router.admission.sessions import Sessions
from fd_router.state.topic import NewsTopic

_decoder = msgspec.msgpack.Decoder(dict[str, float])


class SharedSessions(NewsTopic[float]):
    """Tells of sessions that begin or end: the hash of the secret → for how many seconds it is in force, 0: no more.

    Only among workers, whose connections the kernel hands from one to the next: who can write to a set's server could
    make himself an admin otherwise.
    """

    name = "sessions"

    def __init__(self, sessions: Sessions) -> None:
        super().__init__()
        self._sessions = sessions
        self.flush: Callable[[], None] = _later
        sessions.on_change = self._on_change

    def _on_change(self, mark: bytes, seconds: float) -> None:
        self._news[mark.hex()] = seconds
        self.flush()

    def take(self, process: str, payload: msgspec.Raw) -> None:  # noqa: ARG002
        """See ``Topic``."""
        for mark, seconds in _decoder.decode(payload).items():
            self._sessions.put(bytes.fromhex(mark), seconds)

    def snapshot(self) -> Iterator[bytes]:
        """See ``Topic``."""
        if found := self._sessions.in_force():
            yield msgspec.msgpack.encode({mark.hex(): seconds for mark, seconds in found.items()})


def _later() -> None:
    """It goes with the next frame."""
