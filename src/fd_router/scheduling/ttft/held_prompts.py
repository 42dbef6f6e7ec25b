"""Held prompts: they wait in the router until their instance can begin with them, the shortest first."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Protocol

import numpy as np

from fd_router.openai.precedence import Precedence
from fd_router.scheduling.environment import Later, Timer
from fd_router.scheduling.ttft.columns import Column, FleetColumns
from fd_router.scheduling.ttft.prefill_queue import PrefillQueue, PromptWork
from fd_router.scheduling.ttft.turns import Turns, offset_of

LEAD = 0.01
"""Seconds before an instance is done in which the next prompt is sent: the way there must not leave it idle."""

AGEING = 0.5
"""Seconds of work that a second of waiting makes up for: so a long prompt isn't overtaken for ever."""

MOST = 500
"""Prompts that wait, at all instances: a bound for what looking at them takes. Beyond it the shortest is sent."""

MOST_OTHERS = 1500
"""Prompts that wait at other routers, as far as they are looked at."""

SOON = 0.001
"""Seconds; a timer isn't set to less."""

_rank = attrgetter("rank")


class HeldPrompts:
    """All prompts that wait, as columns: the slot of their instance in ``FleetColumns``, their rank, their tokens."""

    __slots__ = ("_columns", "_pending", "_rank", "_slot", "_tokens", "others")

    def __init__(self, columns: FleetColumns) -> None:
        self._columns = columns
        self._pending: list[PromptWork] = []  # by row
        self._slot = np.zeros(MOST + MOST_OTHERS + 1, dtype=np.intp)
        self._rank, self._tokens = np.zeros((2, MOST + MOST_OTHERS + 1))
        self.others = 0  # of these, those that wait at other routers

    def add_other(self, pending: PromptWork, slot: int) -> bool:
        """One waits at another router. Returns False where too many do."""
        if self.others >= MOST_OTHERS:
            return False
        self.others += 1
        self.add(pending, slot)
        return True

    def remove_other(self, pending: PromptWork) -> None:
        """It doesn't wait there any more."""
        self.others -= 1
        self.remove(pending)

    def add(self, pending: PromptWork, slot: int) -> None:
        """One begins to wait here. No more than ``MOST`` + 1 can."""
        row = pending.row = len(self._pending)
        self._pending.append(pending)
        self._slot[row], self._rank[row], self._tokens[row] = slot, pending.rank, pending.tokens

    def remove(self, pending: PromptWork) -> None:
        """It doesn't wait any more. The last one gets its row."""
        last, row = self._pending.pop(), pending.row
        pending.row = -1
        if last is not pending:
            end = len(self._pending)
            self._pending[row], last.row = last, row
            for column in (self._slot, self._rank, self._tokens):
                column[row] = column[end]

    def weigh(self, own: Column, pace: Column, now: float, offset: float = 0.0) -> tuple[Column, Column]:
        """Return, by place, how many seconds would go before a prompt that takes ``own`` seconds, and how many behind.

        Those before are in seconds of work, those behind a number of prompts. For candidates that ``FleetColumns`` was
        asked for last. ``offset``: see ``offset_of``.
        """
        count, order = len(self._pending), self._columns.order
        slot = self._slot[:count]
        by_slot = np.zeros((2, self._columns.size))
        by_slot[0, order], by_slot[1, order] = own, pace
        is_before = self._rank[:count] <= by_slot[0, slot] + (AGEING * now + offset)
        seconds = self._tokens[:count] * by_slot[1, slot] * is_before
        size = self._columns.size
        before = np.bincount(slot, seconds, size)[order]
        behind = np.bincount(slot, ~is_before, size)[order]
        return before, behind

    def __len__(self) -> int:
        return len(self._pending)

    def __repr__(self) -> str:
        return f"<HeldPrompts: {len(self._pending)} prompts>"


class WaitingElsewhere(Protocol):
    """What waits at other routers for an instance; see ``scheduling.ttft.held_elsewhere``."""

    def patience(self, rank: float, now: float) -> float:
        """Return for how many seconds one of ``rank`` leaves the instance to another router; 0: it goes itself."""

    def on_full(self) -> None:
        """The instance can't take another prompt."""


class HoldQueue:
    """The prompts that wait for one instance.

    It is fed so that it always has something to prefill, and no more: engines prefill first come first served, but
    here a short prompt that comes late can go first. An instance takes another prompt when

    * what it has will be done in ``LEAD`` seconds, as far as can be reckoned, or
    * that and the prompt are no more than ``feed_tokens``: prompts so short an engine may prefill in one batch, or
    * no first token will tell when it is done: nobody is to wait for a guess.

    Of those that wait, at other routers too, the lowest of ``seconds of work + AGEING × when it came`` goes first.
    Where prompts have a precedence, ``Turns`` say which; and to a prompt's seconds of work it adds those of its party's
    that wait already.
    """

    __slots__ = (
        "_backlog", "_clock", "_feed_tokens", "_later", "_on_sent", "_timer", "_turns", "_waiting",
        "_waits_here", "elsewhere", "slot",
    )  # fmt: skip

    def __init__(
        self,
        backlog: PrefillQueue,
        slot: int,
        waiting: HeldPrompts,
        clock: Callable[[], float],
        later: Later | None,
        feed_tokens: float,
        turns: Turns | None = None,
        on_sent: Callable[[PromptWork, float], None] = lambda _pending, _now: None,
    ) -> None:
        """``on_sent``: who is told of a prompt that has waited, and of the time."""
        self._turns = Turns() if turns is None else turns
        self._on_sent = on_sent
        self._backlog = backlog
        self.slot = slot
        self._waiting = waiting
        self._waits_here: list[PromptWork] = []  # in the order of their ranks
        self._clock = clock
        self._later = later if feed_tokens else None
        self._feed_tokens = feed_tokens
        self._timer: Timer | None = None
        self.elsewhere: WaitingElsewhere | None = None  # None: nothing waits there

    def add(self, tokens: float, now: float, *, is_heard: bool, precedence: Precedence | None = None) -> PromptWork:
        """A prompt is to be sent: at once, or when its turn has come (its ``row`` tells)."""
        backlog = self._backlog
        pending = backlog.announce(tokens, now, is_heard=is_heard)
        if self._later is None or (not self._waits_here and self.elsewhere is None and self._can_take(pending, now)):
            backlog.take(pending, now)
            return pending
        pending.precedence = precedence
        work = tokens + (self._tokens_of(precedence.party) if precedence is not None and precedence.party else 0.0)
        pending.rank = work / backlog.speed.tokens_per_sec + AGEING * now + offset_of(precedence)
        insort(self._waits_here, pending, key=_rank)
        self._waiting.add(pending, self.slot)
        backlog.publish()
        self.feed(now)
        return pending

    def end(self, pending: PromptWork, now: float) -> None:
        """The request is over, sent or not."""
        if pending.row >= 0:
            self._take_out(pending)
        self._backlog.end(pending, now)
        self.feed(now)

    def feed(self, now: float) -> None:
        """Send what the instance can take."""
        if not self._waits_here and self._timer is None:
            return
        secs, elsewhere = 0.0, self.elsewhere
        while self._waits_here:
            first = self._turns.first(self._waits_here, now, self._backlog.speed.tokens_per_sec)
            if not self._can_take(first, now) and len(self._waiting) - self._waiting.others <= MOST:
                secs = self._backlog.prefill_seconds(now) - LEAD
                if elsewhere is not None:
                    elsewhere.on_full()
                break
            if elsewhere is not None and (secs := elsewhere.patience(first.rank, now)):
                break
            self._turns.took(first)
            self._send(first, now)
        self._stop_timer()
        if self._waits_here and self._later is not None:
            self._timer = self._later(max(SOON, secs), self._on_time)

    def held(self) -> Sequence[PromptWork]:
        """Return what waits here, the first one first."""
        return self._waits_here

    @property
    def tokens(self) -> float:
        """The tokens that wait here."""
        return sum(pending.tokens for pending in self._waits_here)

    def clear(self, now: float) -> None:
        """The instance is gone: nothing waits for it any more. Who sends these has to look, and to choose anew."""
        while self._waits_here:
            self._send(self._waits_here[0], now)
        self._stop_timer()

    def _can_take(self, pending: PromptWork, now: float) -> bool:
        backlog = self._backlog
        if not backlog.tells or backlog.prefill_seconds(now) <= LEAD:
            return True
        return backlog.tokens + backlog.others + pending.tokens <= self._feed_tokens

    def _send(self, pending: PromptWork, now: float) -> None:
        self._take_out(pending)
        for other in self._waits_here:
            if other.came_at <= pending.came_at:
                other.is_reordered = pending.is_reordered = True
        self._backlog.take(pending, now)
        self._on_sent(pending, now)
        if pending.send is not None:
            pending.send()

    def _tokens_of(self, party: str) -> float:
        """Return the tokens of a party's prompts that wait here."""
        return sum(each.tokens for each in self._waits_here if each.precedence and each.precedence.party == party)

    def _take_out(self, pending: PromptWork) -> None:
        self._waits_here.remove(pending)
        self._waiting.remove(pending)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        self._timer = None
        self.feed(self._clock())

    def __repr__(self) -> str:
        return f"<HoldQueue with {len(self._waits_here)} prompts>"
