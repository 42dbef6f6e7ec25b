"""The request queue: where requests wait when every instance has as many as it may have at once. Bounded and fair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from fd_router.admission.drain_rate import DrainRate
from fd_router.admission.fair_queue import FairQueue
from fd_router.admission.priorities import Priorities
from fd_router.config.live import LiveConfig
from fd_router.errors import HttpError, LimitError, SaturatedError
from fd_router.http.deadlines import DeadlineSweeper
from fd_router.http.messages import Request

TELL_SECONDS = 10.0
"""The log tells that requests wait only so often: at its limit, a fleet is full many times a second."""


class Queued(Protocol):
    """A request that waits."""

    def try_dispatch(self) -> bool:
        """Try to be sent. Returns False when there is still no room."""

    def on_turned_away(self, error: HttpError) -> None:
        """It gets no turn: end with ``error``."""


class QueueObserver(msgspec.Struct, frozen=True):
    """Who is told what happens in the queue."""

    waited: Callable[[float], None]  # seconds, until its turn
    refused: Callable[[str], None]  # the reason, a word
    warn: Callable[[str], None]  # a line for the log


class QueueTicket:
    """A request's ticket for its turn, which it has until then or until it leaves."""

    __slots__ = ("_queue", "deadline", "hopes", "party", "priority", "request", "since")

    def __init__(
        self,
        queue: RequestQueue,
        request: Queued,
        priority: str,
        party: str,
        since: float,
        deadline: float,
        *,
        hopes: bool = False,
    ) -> None:
        """``hopes``: there was no instance at all; it waits for a probe that may bring one back, not for room."""
        self._queue = queue
        self.hopes = hopes
        self.request = request
        self.priority = priority
        self.party = party
        self.since = since
        self.deadline = deadline

    def on_deadline(self) -> None:
        """It has waited as long as it may."""
        self._queue.on_expired(self)

    def leave(self) -> None:
        """The request needs no turn any more."""
        self._queue.leave(self)

    def wait_for_room(self) -> None:
        """An instance is back, and full: from now on it waits as all others do."""
        if self.hopes:
            self._queue.on_back(self)

    def __repr__(self) -> str:
        return f"<QueueTicket {self.priority} since {self.since:.3f}>"


class RequestQueue:
    """The tickets, in the order of ``FairQueue``, within the bounds of ``admission`` in the live configuration.

    ``on_capacity`` is to be called when an instance may have room again; turns are given at the loop's turn's end, so
    that what released its reservation is through with it.
    """

    def __init__(
        self,
        live: LiveConfig,
        priorities: Priorities,
        sweeper: DeadlineSweeper,
        clock: Callable[[], float],
        call_soon: Callable[[Callable[[], None]], object],
        observer: QueueObserver,
    ) -> None:
        self.waiting = 0
        """Requests that wait. Read only; an attribute, since every request looks."""
        self.hoping = 0
        """Those of them that wait for a probe, which nobody overtakes who finds no instance either. Read only."""
        self._priorities = priorities
        self._header = live.current.admission.priority_header.lower().encode("ascii")
        self._live = live
        self._queue: FairQueue[QueueTicket] = FairQueue(priorities.weights)
        self._rate = DrainRate()
        self._sweeper = sweeper
        self._clock = clock
        self._call_soon = call_soon
        self._observer = observer
        self._is_due = False
        self._warned_at = -TELL_SECONDS

    def priority_of(self, request: Request, service_tier: str, limit: str | None) -> str:
        """Return the priority of ``request``, at most ``limit`` if there is one: see ``Priorities.choose``."""
        wanted = (request.header(self._header) or b"").decode("latin-1")
        return self._priorities.choose(wanted, service_tier, limit)

    def enter(
        self, request: Queued, priority: str, party: str = "", *, again: bool = False, hope_secs: float = 0.0
    ) -> QueueTicket:
        """Queue as the last of its ``party``, or as the first of its priority when it is to be sent ``again``.

        ``hope_secs``: how long a probe may take that it waits for; 0: it waits for room.

        Parties take turns within a priority. It waits as long as it may now: a reload changes that for those who come
        after it. Raises LimitError (429) when as many wait as may, unless another party has more that wait: of those
        the last one makes room. Never for one that was let in before.
        """
        options = self._live.current.admission
        now = self._clock()
        displaced = None
        if not again and self._queue.length(priority) >= options.max_queued:
            displaced = self._queue.surplus(priority, party)
            if displaced is None:
                raise self._full(priority)
        seconds = min(hope_secs or options.queue_timeout_secs, options.queue_timeout_secs)
        ticket = QueueTicket(self, request, priority, party, now, now + seconds, hopes=hope_secs > 0)
        self.hoping += ticket.hopes
        if not self.waiting:
            self._rate.begin(now)
            self._warn(now, seconds)
        self._queue.add(ticket, priority, party, first=again)
        self._sweeper.add(ticket)
        self.waiting += 1
        if displaced is not None:  # at last: its client may have sent another one, which mustn't find a place free
            self.leave(displaced)
            displaced.request.on_turned_away(self._full(priority))
        return ticket

    def leave(self, ticket: QueueTicket) -> None:
        """Give a ticket up without a turn."""
        self._queue.remove(ticket, ticket.priority, ticket.party)
        self._forget(ticket)

    def on_capacity(self) -> None:
        """There may be room for one more: give turns soon."""
        if self.waiting and not self._is_due:
            self._is_due = True
            self._call_soon(self._give_turns)

    def on_expired(self, ticket: QueueTicket) -> None:
        """A ticket's time is over. What a reload changes holds for those that enter from then on."""
        if ticket.hopes and self._is_back(ticket):
            return
        self.leave(ticket)
        if not ticket.hopes:
            self._observer.refused("queue_timeout")
        waited = self._clock() - ticket.since
        error = SaturatedError(
            f"No instance had room for the request within {waited:.0f} s; {self.waiting} more requests wait",
            code="queue_timeout",
        )
        error.headers = self._retry_after()
        ticket.request.on_turned_away(error)

    def on_back(self, ticket: QueueTicket) -> None:
        """A ticket waits for room now."""
        ticket.hopes = False
        self.hoping -= 1
        ticket.deadline = ticket.since + self._live.current.admission.queue_timeout_secs

    def lengths(self) -> dict[str, int]:
        """Return how many requests of each priority wait."""
        return {priority: self._queue.length(priority) for priority in self._priorities.names}

    def _give_turns(self) -> None:
        self._is_due = False
        try:
            while (ticket := self._queue.first()) is not None and ticket.request.try_dispatch():
                self._had_turn(ticket)
        except Exception:  # a bug with one must not keep the others waiting
            self.on_capacity()
            raise

    def _is_back(self, ticket: QueueTicket) -> bool:
        """Look for the instance that a ticket waited for; only the first of all is asked as soon as it is back.

        Returns whether it is: then the request is sent, or waits for room as all others do.
        """
        if not ticket.request.try_dispatch():
            return not ticket.hopes
        self._had_turn(ticket)
        return True

    def _had_turn(self, ticket: QueueTicket) -> None:
        now = self._clock()
        self._queue.take(ticket, ticket.priority, ticket.party)
        self._rate.count(now)
        self._forget(ticket)
        self._observer.waited(now - ticket.since)

    def _forget(self, ticket: QueueTicket) -> None:
        self._sweeper.discard(ticket)
        self.waiting -= 1
        self.hoping -= ticket.hopes
        if not self.waiting:
            self._rate.pause(self._clock())

    def _full(self, priority: str) -> LimitError:
        self._observer.refused("queue_full")
        seconds = self._rate.seconds_for(self.waiting + 1)
        most = self._live.current.admission.max_queued
        what = f"{most} requests of priority '{priority}' wait already" if most else "none may wait"
        message = f"All instances are busy, and {what}. Please try again in {seconds} s."
        return LimitError(message, kind="requests", retry_after=seconds, code="queue_full")

    def _retry_after(self) -> tuple[tuple[str, str], ...]:
        return (("retry-after", str(self._rate.seconds_for(self.waiting + 1))),)

    def _warn(self, now: float, seconds: float) -> None:
        if now - self._warned_at >= TELL_SECONDS:
            self._warned_at = now
            why = (
                "No instance may be chosen until a probe says so" if self.hoping else "All instances are at their limit"
            )
            most = self._live.current.admission.max_queued
            self._observer.warn(f"{why}: requests wait now, {most} of each priority at most, {seconds:g} s at most")

    def __repr__(self) -> str:
        return f"<RequestQueue {self._queue!r}>"
