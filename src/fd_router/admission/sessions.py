"""Sessions: browsers whose operator has shown the admin token once, each known by a secret of its own."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from typing import Final

SESSION_SECS: Final = 12 * 3600.0
"""How long one lasts: a shift, so that a browser that was left open isn't an admin's for ever."""

MAX_SESSIONS: Final = 256
"""The oldest makes room: whoever begins one has the token, and could do without."""


class Sessions:
    """The sessions in force. Only hashes are kept, and looked up by, so that no time tells anything of a secret."""

    __slots__ = ("_clock", "_until", "on_change")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[bytes, float] = {}  # in the order in which they began, and so end
        self.on_change: Callable[[bytes, float], None] = _alone
        """Is told the hash of a secret, and for how many seconds it is in force from now on."""

    def begin(self) -> str:
        """Begin one, and return its secret: 43 letters, digits, ``-`` and ``_``."""
        secret = secrets.token_urlsafe(32)
        mark = _mark(secret)
        self.put(mark, SESSION_SECS)
        self.on_change(mark, SESSION_SECS)
        return secret

    def has(self, secret: str) -> bool:
        """Tell whether that is the secret of one in force."""
        return self._until.get(_mark(secret), 0.0) > self._clock()

    def end(self, secret: str) -> None:
        """End one, if there is one."""
        if self._until.pop(_mark(secret), None) is not None:
            self.on_change(_mark(secret), 0.0)

    def end_all(self) -> None:
        """End all of them: the token that they began with holds no more."""
        self._until.clear()

    def put(self, mark: bytes, seconds: float) -> None:
        """Have one with a secret of that hash in force for so long, 0: no more."""
        self._drop_old()
        self._until.pop(mark, None)
        if seconds <= 0.0:
            return
        if len(self._until) >= MAX_SESSIONS:
            del self._until[next(iter(self._until))]
        self._until[mark] = self._clock() + min(seconds, SESSION_SECS)

    def in_force(self) -> Mapping[bytes, float]:
        """Return the hashes of all secrets, with the seconds that are left."""
        now = self._clock()
        return {mark: until - now for mark, until in self._until.items() if until > now}

    def _drop_old(self) -> None:
        now = self._clock()
        self._until = {mark: until for mark, until in self._until.items() if until > now}

    def __repr__(self) -> str:
        return f"<Sessions {len(self._until)}>"


def _mark(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _alone(mark: bytes, seconds: float, /) -> None:
    """A process that is alone has nobody to tell."""
