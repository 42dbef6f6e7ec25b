"""Limits a minute that all routers of a set keep together: reserved where they share them, or a fair share each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Protocol

from fd_router.admission.allowance import Allowance, Bucket
from fd_router.bugs import tell_of_bug
from fd_router.bus import Ask, Bus, BusError, Grant

WAIT_SECONDS = 0.02
"""How long a request may wait for the set's word."""

TURNS = 8
"""Of the loop that a word gets after that: a busy process looks at its clock before it reads what has come in time."""

PAUSE_SECONDS = 0.5
"""How long nobody asks after the bus has failed."""

SETTLE_SECONDS = 0.05
"""How long what engines told of usage may wait to be told on."""

MOST_AT_ONCE = 1_000
"""Requests of one ask."""


class Counters(Protocol):
    """What is counted."""

    def reserved(self, by: str, requests: int) -> None:
        """So many were judged by the ``set``, or by the fair ``share``."""


class _Share:
    """What one router may let in by a key while it can't ask, and what it let in so that the others know nothing of."""

    __slots__ = ("allowance", "requests", "requests_owed", "tokens", "tokens_owed")

    def __init__(self, allowance: Allowance, now: float) -> None:
        self.allowance = allowance
        self.requests = Bucket(0, now)
        self.tokens = Bucket(0, now)
        self.requests_owed = 0
        self.tokens_owed = 0

    def level(self, grant: Grant, size: int) -> None:
        """The set has so much left: a fair share of it is this router's, if it can't ask again."""
        self.requests.level = max(0.0, grant.requests_left - self.requests_owed) / size
        self.tokens.level = max(0.0, grant.tokens_left - self.tokens_owed) / size

    def fill(self, size: int, now: float) -> None:
        """Add what has come since, at this router's part of the speed."""
        key = self.allowance.key
        for bucket, whole in ((self.requests, key.requests_per_minute), (self.tokens, key.tokens_per_minute)):
            bucket.fill(now)
            part = max(1, whole // size) if whole else 0
            if bucket.per_minute != part:
                bucket.resize(part)


class _Waiting:
    """A request that waits for the word."""

    __slots__ = ("allowance", "done", "tokens")

    def __init__(self, allowance: Allowance, tokens: int, done: asyncio.Future[bool]) -> None:
        self.allowance = allowance
        self.tokens = tokens
        self.done = done


class SharedLimits:
    """Lets requests of keys with limits a minute in, by the word of all routers together.

    Requests that come while an ask is under way go with the next one, so there is one at a time, however many come.
    While a word is late nobody else asks; when it comes, what it let in is set off against what was let in meanwhile.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        is_up: Callable[[], bool],
        size: Callable[[], int],
        clock: Callable[[], float],
        counters: Counters,
    ) -> None:
        """``size``: how many processes share the limits."""
        self._bus = bus
        self._is_up = is_up
        self._size = size
        self._clock = clock
        self._counters = counters
        self._waiting: list[_Waiting] = []
        self._asking: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._late: asyncio.Future[Sequence[Grant]] | None = None
        self._paused_until = 0.0
        self._shares: dict[str, _Share] = {}  # by key's name

    async def take(self, allowance: Allowance, tokens: int) -> None:
        """Let a request in, or raise LimitError. Waits for 20 ms at most."""
        if self._late is not None or not self._is_up() or self._clock() < self._paused_until:
            if not self._takes_alone(allowance, tokens):
                raise allowance.over(tokens)
            return
        loop = asyncio.get_running_loop()
        one = _Waiting(allowance, tokens, loop.create_future())
        self._waiting.append(one)
        if self._asking is None:
            self._asking = loop.create_task(self._ask_all(), name="key limits")
        if not await one.done:  # no exception of the future's: that would hold this frame, and this frame the future
            raise allowance.over(tokens)

    def correct(self, allowance: Allowance, tokens: int) -> None:
        """Count ``tokens`` more than were reserved (or fewer): the engine has told how many there were."""
        self._share(allowance).tokens_owed += tokens
        self._settle_soon()

    # asking

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
                await self._ask(batch)
        finally:
            self._asking = None

    async def _ask(self, batch: Sequence[_Waiting]) -> None:
        by_key: dict[str, list[_Waiting]] = {}
        for one in batch:
            by_key.setdefault(one.allowance.key.name, []).append(one)
        groups = list(by_key.values())
        word = asyncio.ensure_future(self._word(groups))
        if not await _comes_in_time(word):
            self._late = word
            word.add_done_callback(partial(self._on_late, groups))
            self._resolve_alone(batch)
        elif (error := word.exception()) is None:
            for group, grant in zip(groups, word.result(), strict=True):
                self._resolve(group, grant)
        else:
            self._on_failed(error)
            self._resolve_alone(batch)

    async def _word(self, groups: Sequence[Sequence[_Waiting]]) -> Sequence[Grant]:
        """Ask for all groups. What was let in alone is told first, so that the word that comes knows of it."""
        for group in groups:
            share = self._share(group[0].allowance)
            if share.requests_owed:
                await self._tell(share)
        return await self._bus.reserve([_asked(group) for group in groups])

    def _on_late(self, groups: Sequence[Sequence[_Waiting]], word: asyncio.Future[Sequence[Grant]]) -> None:
        """The word has come after all, or never will."""
        self._late = None
        if word.cancelled():
            return
        if (error := word.exception()) is not None:
            self._on_failed(error)
            return
        for group, grant in zip(groups, word.result(), strict=True):
            share = self._share(group[0].allowance)
            share.requests_owed -= grant.granted  # taken already, by this word
            share.tokens_owed -= sum(one.tokens for one in group[: grant.granted])
            share.level(grant, self._size())
        self._settle_soon()

    def _on_failed(self, error: BaseException) -> None:
        self._paused_until = self._clock() + PAUSE_SECONDS
        if not isinstance(error, BusError):
            tell_of_bug("asking for the limits of keys failed", error)

    def _resolve(self, group: Sequence[_Waiting], grant: Grant) -> None:
        allowance, now = group[0].allowance, self._clock()
        allowance.know(grant.requests_left, grant.tokens_left, now)
        share = self._share(allowance)
        share.level(grant, self._size())
        self._counters.reserved("set", len(group))
        for place, one in enumerate(group):
            if one.done.done():  # its client has left
                continue
            one.done.set_result(place < grant.granted)
        if share.requests_owed or share.tokens_owed:
            self._settle_soon()

    # alone

    def _resolve_alone(self, batch: Sequence[_Waiting]) -> None:
        """The word is missing: judge these, and those that have come meanwhile, by this router's share."""
        late, self._waiting = [*batch, *self._waiting], []
        for one in late:
            if not one.done.done():
                one.done.set_result(self._takes_alone(one.allowance, one.tokens))

    def _takes_alone(self, allowance: Allowance, tokens: int) -> bool:
        """Take from this router's fair share. Returns False where too little is left of it."""
        share = self._share(allowance)
        self._counters.reserved("share", 1)
        allowance.know(share.requests.level, share.tokens.level, self._clock())
        key = allowance.key
        lacks = (key.requests_per_minute and share.requests.seconds_until(1) > 0) or (
            key.tokens_per_minute and share.tokens.seconds_until(tokens) > 0
        )
        if lacks:
            return False
        share.requests.level -= 1
        share.tokens.level -= tokens
        share.requests_owed += 1
        share.tokens_owed += tokens
        return True

    def _share(self, allowance: Allowance) -> _Share:
        now, name = self._clock(), allowance.key.name
        share = self._shares.get(name)
        if share is None:
            share = self._shares[name] = _Share(allowance, now)
        share.allowance = allowance
        share.fill(self._size(), now)
        return share

    # settling

    def _settle_soon(self) -> None:
        if self._settling is None:
            self._settling = asyncio.get_running_loop().create_task(self._settle(), name="key limits: settling")

    async def _settle(self) -> None:
        try:
            while owing := [one for one in self._shares.values() if one.requests_owed or one.tokens_owed]:
                await asyncio.sleep(SETTLE_SECONDS if self._is_up() else PAUSE_SECONDS)
                if self._is_up():
                    for share in owing:
                        await self._tell(share)
        except BusError:
            return  # what is owed is kept, and told after the next word
        finally:
            self._settling = None

    async def _tell(self, share: _Share) -> None:
        key, requests, tokens = share.allowance.key, share.requests_owed, share.tokens_owed
        share.requests_owed = share.tokens_owed = 0  # so that nobody tells it a second time meanwhile
        ask = Ask(key_mark(key.name), key.requests_per_minute, key.tokens_per_minute, (tokens,))
        try:
            await self._bus.settle(ask, requests)
        except BusError:
            share.requests_owed += requests
            share.tokens_owed += tokens
            raise


async def _comes_in_time(word: asyncio.Future[Sequence[Grant]]) -> bool:
    await asyncio.wait((word,), timeout=WAIT_SECONDS)
    for _ in range(TURNS):
        if word.done():
            break
        await asyncio.sleep(0)
    return word.done()


def _asked(group: Sequence[_Waiting]) -> Ask:
    key = group[0].allowance.key
    tokens = tuple(one.tokens for one in group)
    return Ask(key_mark(key.name), key.requests_per_minute, key.tokens_per_minute, tokens)


def key_mark(name: str) -> str:
    """Return what a key's bucket is called on the bus: the key itself, and its name, stay here."""
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
