"""One engine's stream of KV events: in order, without gaps, and noticed when it begins anew. No I/O.

Batches are numbered from 0. One that is missing is asked for again, as the engine keeps the last ones (``ask``); what
comes meanwhile waits. What can't be had is lost: then all that is known of the cache is given up. An engine that
began anew numbers from 0 again; a number that came before is an echo if its batch isn't younger than the last one.

When nothing has come for a while the last batch is asked for: an engine that has it has told all, one that began anew
doesn't.

A large batch is taken in pieces, of which each comes when its turn is (``catch_up``); what comes meanwhile waits.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from fd_router.engines.kv_event_batches import EventPieces, KvEventBatch, KvEventDecoder
from fd_router.engines.kv_events import KvEvent

CHECK_SECS: Final = 3.0
"""After so long without a batch the engine is asked whether there was one; and as often again."""

REPLAY_SECS: Final = 3.0
"""How long an engine may take to answer; it does so between two steps."""

MOST_PATIENCE_SECS: Final = 600.0
"""How long one that doesn't answer is left alone at most: its replay port may be closed to us."""

WAITING: Final = 20_000
"""Batches that may come while others are replayed."""


AT_ONCE: Final = 128 * 1024
"""Bytes that are taken in one go, some 3 ms: after a gap there may be thousands of batches, or one may be as large."""

NOTHING: Final = -1

_Numbered = tuple[int, KvEventBatch, int]
"""Number, batch, and the bytes that it had."""


class Cache(Protocol):
    """Takes in what the engine tells; see ``scheduling.prefix.engine_blocks``."""

    def apply(self, events: Sequence[KvEvent], unknown: int = 0, *, goes_on: bool = False) -> None:
        """Take in what happened; ``goes_on``: more of what happened at once, some of which was stored before."""

    def forget(self) -> None:
        """Nothing is known any more."""

    def begin(self) -> None:
        """Nothing is held but what will be told from now on."""


class EventStream:
    """Brings batches into order. ``ask(number)`` asks for those from ``number`` on; None: the engine keeps none."""

    __slots__ = (
        "_again_at", "_ask", "_asked", "_asked_at", "_cache", "_decode", "_expected", "_heard_at", "_is_anew",
        "_is_behind", "_is_known", "_is_other", "_last_time", "_may_ask", "_patience", "_pieces", "_waiting", "counts",
    )  # fmt: skip

    def __init__(self, cache: Cache, ask: Callable[[int], None] | None) -> None:
        self._cache = cache
        self._ask = ask
        self._decode = KvEventDecoder(AT_ONCE).decode
        self._expected = 0  # the number of the next batch
        self._last_time = 0.0  # of the last batch, by the engine's clock
        self._asked = NOTHING  # which batch was the next one when batches were asked for
        self._asked_at = 0.0
        self._is_known = False  # whether the answer is of the engine that told the last batch …
        self._is_other = False  # … or of another one
        self._is_anew = False  # whether it was asked for all, in the place of what is known
        self._is_behind = False  # whether something is lost since it didn't answer
        self._again_at = math.inf  # when it is asked for that again
        self._patience = CHECK_SECS
        self._heard_at = 0.0
        self._pieces: EventPieces | None = None  # of the last batch, those that weren't taken yet
        self._waiting: deque[_Numbered] = deque(maxlen=WAITING)
        self._may_ask = False  # whether a gap in what waited is another one than was asked for
        self.counts = {"replayed": 0, "lost": 0, "restarted": 0, "broken": 0}  # gaps by what became of them

    def begin(self, now: float) -> None:
        """The engine is listened to from now on: ask for all that it told before."""
        self._heard_at = now
        self._forget()
        if self._ask is not None:
            self._request(now)

    @property
    def is_asking(self) -> bool:
        """Whether an answer is awaited."""
        return self._asked != NOTHING

    @property
    def is_amid(self) -> bool:
        """Whether there are pieces left of a batch; until they are taken nothing that was asked for can be."""
        return self._pieces is not None

    def on_batch(self, number: int, payload: bytes, now: float) -> None:
        """Take a batch as it is published."""
        self._heard_at = now
        batch = self._decoded(payload)
        if batch is None:
            return
        numbered = (number, batch, len(payload))
        if self.is_asking or self._waiting:
            self._waiting.append(numbered)
            return
        self._may_ask = True
        if self._pieces is not None:
            self._waiting.append(numbered)
        else:
            self._take(numbered, now)

    def on_replayed(self, number: int, payload: bytes, now: float) -> None:
        """Take a batch that was asked for."""
        if not self.is_asking or self._is_other:
            return
        self._asked_at = now  # it is at it
        batch = self._decoded(payload)
        if batch is None:
            return
        if self._is_anew:
            self._is_anew = self._is_behind = False
            self._expected, self._last_time = 0, 0.0
            self._forget()
        if number >= self._expected:
            if number > self._expected or (self._expected and not self._is_known):  # it may be another engine's
                self._lose()
            self._is_known = True
            self._apply(number, batch)
        elif number == self._expected - 1 and not self._is_known:
            self._is_known = batch.time == self._last_time
            self._is_other = not self._is_known

    def on_replay_end(self, now: float) -> None:
        """All that was asked for has come."""
        if not self.is_asking:
            return
        asked, self._asked = self._asked, NOTHING
        self._again_at, self._patience = (now if self._is_behind else math.inf), CHECK_SECS
        if self._expected and not self._is_known:  # it doesn't know what we know
            self._restart(now, None)
            return
        if not self._expected:  # nothing was ever published
            self._cache.begin()
        has_come = self._expected > asked
        if has_come and self._waiting:
            self.counts["replayed"] += 1
        self._flush(now, may_ask=has_come)

    @property
    def has_more(self) -> bool:
        """Whether something has come that is to be taken in by now."""
        return self._pieces is not None or (bool(self._waiting) and not self.is_asking)

    def catch_up(self, now: float) -> None:
        """Take some of it."""
        if self._pieces is not None:
            self._take_piece(self._pieces)
            return
        left = AT_ONCE
        while left > 0 and self.has_more:
            numbered = self._waiting.popleft()
            left = 0 if numbered[1].pieces is not None else left - numbered[2]
            self._take(numbered, now)

    def tick(self, now: float) -> None:
        """Look at the time."""
        if self._ask is None or self._pieces is not None:
            return
        if self.is_asking:
            if now - self._asked_at > REPLAY_SECS:
                self._give_up(now)
        elif now >= self._again_at:
            self._request(now, is_anew=True)
        elif now - self._heard_at > CHECK_SECS:
            self._heard_at = now
            self._request(now)

    def _give_up(self, now: float) -> None:
        """It doesn't answer: what waits goes on without, and it is asked again later, and ever later."""
        self._asked = NOTHING
        self._heard_at = now
        self._is_behind = True
        self._again_at = now + self._patience
        self._patience = min(self._patience * 2, MOST_PATIENCE_SECS)
        self._flush(now, may_ask=False)

    def _take(self, numbered: _Numbered, now: float) -> None:
        number, batch, _ = numbered
        if number == self._expected:
            self._apply(number, batch)
        elif number < self._expected:
            if batch.time > self._last_time:
                self._restart(now, numbered)
        elif self._may_ask and self._ask is not None:
            self._waiting.appendleft(numbered)
            self._request(now)
        else:
            self._lose()
            self._apply(number, batch)

    def _apply(self, number: int, batch: KvEventBatch) -> None:
        while self._pieces is not None:  # only for who didn't heed ``is_amid``
            self._take_piece(self._pieces)
        if not number:
            self._cache.begin()
        self._expected, self._last_time = number + 1, batch.time
        self._cache.apply(batch.events, batch.unknown)
        self._pieces = batch.pieces

    def _take_piece(self, pieces: EventPieces) -> None:
        piece = pieces.take()
        self._pieces = None if pieces.are_taken else pieces
        self._cache.apply(piece.events, piece.unknown, goes_on=piece.goes_on)

    def _forget(self) -> None:
        self._pieces = None
        self._cache.forget()

    def _lose(self) -> None:
        """What came before isn't known."""
        self.counts["lost"] += 1
        self._forget()

    def _restart(self, now: float, first: _Numbered | None) -> None:
        """The engine began anew: with an empty cache, at number 0. ``first``: what showed it."""
        self.counts["restarted"] += 1
        self._is_behind, self._again_at = False, math.inf
        self._expected, self._last_time = 0, 0.0
        self._may_ask = True
        self._forget()
        if first is not None and not (first[0] and self._ask is not None):
            self._take(first, now)
            return
        if first is not None:
            self._waiting.appendleft(first)
        self._request(now)

    def _request(self, now: float, *, is_anew: bool = False) -> None:
        """Ask for all from the last known batch on, which shows that the engine is still the same.

        ``is_anew``: from the first one on, in the place of what is known.
        """
        assert self._ask is not None
        self._is_anew = is_anew
        self._asked, self._asked_at = self._expected, now
        self._is_known = self._is_other = False
        self._ask(0 if is_anew else max(0, self._expected - 1))

    def _flush(self, now: float, *, may_ask: bool) -> None:
        """Begin to take what waited; ``may_ask``: a gap that is there now is another one than was asked for."""
        self._may_ask = may_ask
        self.catch_up(now)

    def _decoded(self, payload: bytes) -> KvEventBatch | None:
        try:
            return self._decode(payload)
        except ValueError:
            self.counts["broken"] += 1
            return None

    def __repr__(self) -> str:
        return f"<EventStream at {self._expected}, asking={self.is_asking}>"
