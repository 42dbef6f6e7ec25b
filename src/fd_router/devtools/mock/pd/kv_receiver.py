"""Where a decode mock instance takes in the KV caches that prefill instances hand it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import msgspec

Key = tuple[str, str]
"""Request id, and the prefill instance's connector."""

LATE_SECS = 0.1
"""How long a KV cache is kept that comes after its request ended: another attempt may be on its way."""

_REMEMBERED = 10_000


class Transfer(msgspec.Struct, frozen=True, rename={"sender": "from"}):
    """A KV cache, of which only the size matters here. With ``drop``, it is withdrawn."""

    request_id: str
    sender: str  # the prefill instance's connector, ``ip:port``
    tokens: int = 0
    cached_tokens: int = 0
    first_token: int = 0
    tp_size: int = 1
    drop: bool = False

    @property
    def key(self) -> Key:
        """Whose it is."""
        return self.request_id, self.sender


OnKv = Callable[[Transfer | None], None]
"""Gets the KV cache; None when it didn't come in time."""


class KvReceiver:
    """Brings requests and their KV caches together, whichever comes first. Each waits ``wait_secs`` for the other."""

    def __init__(self, wait_secs: float) -> None:
        self._wait_secs = wait_secs
        self._loop = asyncio.get_running_loop()
        self._expected: dict[Key, tuple[OnKv, asyncio.TimerHandle]] = {}
        self._held: dict[Key, tuple[Transfer, asyncio.TimerHandle]] = {}
        self._ended: OrderedDict[Key, None] = OrderedDict()  # the last requests that are over
        self.received = 0

    @property
    def expected(self) -> int:
        """Requests that wait for their KV cache."""
        return len(self._expected)

    @property
    def held(self) -> int:
        """KV caches that wait for their request."""
        return len(self._held)

    def expect(self, key: Key, on_kv: OnKv) -> None:
        """Call ``on_kv`` with the KV cache, at once if it is here."""
        self._ended.pop(key, None)
        found = self._held.pop(key, None)
        if found is not None:
            found[1].cancel()
            on_kv(found[0])
        else:
            self._expected[key] = (on_kv, self._loop.call_later(self._wait_secs, self._give_up, key))

    def receive(self, transfer: Transfer) -> None:
        """Take a KV cache in, or let one go."""
        key = transfer.key
        self._let_go(key)
        if transfer.drop:
            return
        self.received += 1
        waiting = self._expected.pop(key, None)
        if waiting is not None:
            waiting[1].cancel()
            waiting[0](transfer)
        else:
            secs = LATE_SECS if key in self._ended else self._wait_secs
            self._held[key] = (transfer, self._loop.call_later(secs, self._let_go, key))

    def forget(self, key: Key) -> None:
        """The request is over, however it ended."""
        waiting = self._expected.pop(key, None)
        if waiting is not None:
            waiting[1].cancel()
        self._let_go(key)
        self._ended[key] = None
        if len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)

    def close(self) -> None:
        """Wait for nothing any more."""
        for key in [*self._expected, *self._held]:
            self.forget(key)

    def _let_go(self, key: Key) -> None:
        found = self._held.pop(key, None)
        if found is not None:
            found[1].cancel()

    def _give_up(self, key: Key) -> None:
        on_kv, _ = self._expected.pop(key)
        on_kv(None)

    def __repr__(self) -> str:
        return f"<KvReceiver expected={self.expected} held={self.held}>"
