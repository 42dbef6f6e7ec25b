"""A circuit breaker: when an instance that fails its requests is given none. A table; no clock, no I/O."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from types import MappingProxyType
from typing import Final

import msgspec


class Circuit(Enum):
    """How requests get to an instance."""

    CLOSED = "closed"  # as usual
    OPEN = "open"  # not at all
    HALF_OPEN = "half-open"  # one on trial


_CLOSED: Final = Circuit.CLOSED
"""Each answer asks for it, and an Enum finds its members by a search: thirty times the cost of a name's."""


class Signal(Enum):
    """What moves a circuit."""

    TRIPPED = "tripped"  # too many failures
    WAITED = "waited"  # it has been open for long enough
    SUCCEEDED = "succeeded"  # a request was answered
    FAILED = "failed"  # a request failed, too few of them to trip
    REFUSED = "refused"  # it refuses everybody's requests, as if it had other keys or another model than the others
    NEEDED = "needed"  # too few instances are left without it
    RESTARTED = "restarted"  # the instance was down: what it did before tells nothing any more


RULES: MappingProxyType[tuple[Circuit, Signal], Circuit] = MappingProxyType({
    (Circuit.CLOSED, Signal.TRIPPED): Circuit.OPEN,
    (Circuit.CLOSED, Signal.WAITED): Circuit.CLOSED,
    (Circuit.CLOSED, Signal.SUCCEEDED): Circuit.CLOSED,
    (Circuit.CLOSED, Signal.FAILED): Circuit.CLOSED,
    (Circuit.CLOSED, Signal.REFUSED): Circuit.OPEN,
    (Circuit.CLOSED, Signal.NEEDED): Circuit.CLOSED,
    (Circuit.CLOSED, Signal.RESTARTED): Circuit.CLOSED,
    # What was sent before it opened may still end, either way.
    (Circuit.OPEN, Signal.TRIPPED): Circuit.OPEN,
    (Circuit.OPEN, Signal.WAITED): Circuit.HALF_OPEN,
    (Circuit.OPEN, Signal.SUCCEEDED): Circuit.OPEN,
    (Circuit.OPEN, Signal.FAILED): Circuit.OPEN,
    (Circuit.OPEN, Signal.REFUSED): Circuit.OPEN,
    (Circuit.OPEN, Signal.NEEDED): Circuit.CLOSED,
    (Circuit.OPEN, Signal.RESTARTED): Circuit.CLOSED,
    (Circuit.HALF_OPEN, Signal.TRIPPED): Circuit.OPEN,
    (Circuit.HALF_OPEN, Signal.WAITED): Circuit.HALF_OPEN,
    (Circuit.HALF_OPEN, Signal.SUCCEEDED): Circuit.CLOSED,
    (Circuit.HALF_OPEN, Signal.FAILED): Circuit.OPEN,
    (Circuit.HALF_OPEN, Signal.REFUSED): Circuit.OPEN,
    (Circuit.HALF_OPEN, Signal.NEEDED): Circuit.CLOSED,
    (Circuit.HALF_OPEN, Signal.RESTARTED): Circuit.CLOSED,
})  # fmt: skip


class TripLimits(msgspec.Struct, frozen=True):
    """How many failures are too many: so many in a row, or that share of at least ``min_requests`` in the window."""

    in_a_row: int = 5  # 0: any number
    share: float = 0.5  # 0: any share
    min_requests: int = 20
    window: float = 10.0  # seconds; only told, the owner of the clock calls ``rotate``


REFUSALS = frozenset((401, 403, 404))
"""Statuses that say nothing of an instance unless everybody gets them from it, and from nobody else."""

ENOUGH_CLIENTS = 3
"""Clients, or keys, that must have been refused."""

OnSignal = Callable[[Signal, str], None]
"""(what happened, why in a few words): asks the owner to move the circuit."""


class Refusals(msgspec.Struct, frozen=True):
    """Answers of half a window from 400 to 499: how many, how many were none of ``REFUSALS``, and whom those met."""

    number: int = 0
    others: int = 0
    clients: frozenset[str] = frozenset()  # not more than matter

    def and_one(self, status: int, client: str) -> Refusals:
        """Count one more."""
        if status not in REFUSALS:
            return Refusals(self.number + 1, self.others + 1, self.clients)
        clients = self.clients if len(self.clients) >= ENOUGH_CLIENTS else self.clients | {client}
        return Refusals(self.number + 1, self.others, clients)

    def and_all(self, other: Refusals) -> Refusals:
        """Add up both."""
        return Refusals(self.number + other.number, self.others + other.others, self.clients | other.clients)


_NONE = Refusals()


class Breaker:
    """Counts how an instance's requests come out, and signals when that says something.

    The window slides in halves: ``rotate`` is called twice in its length. A success costs the hot path two additions.
    """

    __slots__ = (
        "_is_odd", "_limits", "_older", "_older_refusals", "_on_signal", "circuit", "failures", "in_a_row", "refusals",
        "requests",
    )  # fmt: skip

    def __init__(self, limits: TripLimits, on_signal: OnSignal) -> None:
        self._limits = limits
        self._on_signal = on_signal
        self.circuit = Circuit.CLOSED
        self._older = (0, 0)  # requests and failures of the window's older half
        self.requests = 0
        self.failures = 0
        self.in_a_row = 0
        self.refusals = self._older_refusals = _NONE
        self._is_odd = False  # it opened because it refused everybody

    def answered(self, status: int) -> None:
        """Learn that an answer began. From 400 to 499 it is about the request and says nothing of the instance."""
        if status < 400:
            self.requests += 1
            self.in_a_row = 0
            if self.circuit is not _CLOSED:
                self._on_signal(Signal.SUCCEEDED, f"status {status}")
        elif status >= 500:
            self.failed(f"status {status}")

    def refused(self, status: int, client: str) -> None:
        """Learn that a request of ``client`` was answered with ``status``, 400 to 499."""
        self.refusals = refusals = self.refusals.and_one(status, client)
        if self._is_odd and self.circuit is Circuit.HALF_OPEN and status in REFUSALS:
            self._on_signal(Signal.REFUSED, f"status {status}")
        elif len(refusals.clients) >= ENOUGH_CLIENTS or self._older_refusals.clients:
            both = refusals.and_all(self._older_refusals)
            if self._refuses_all() and len(both.clients) >= ENOUGH_CLIENTS:
                within = f"within {self._limits.window:g} s"
                self._on_signal(Signal.REFUSED, f"it answered status {status} to all {both.number} requests {within}")

    def outcome(self) -> tuple[int, int]:
        """Return how many requests of the window were answered well, and how many there were that tell something."""
        requests, failures = self.requests + self._older[0], self.failures + self._older[1]
        both = self.refusals.and_all(self._older_refusals)
        return max(0, requests - failures), requests + both.number - both.others

    def _refuses_all(self) -> bool:
        """Whether it has answered nothing else in the window."""
        both = self.refusals.and_all(self._older_refusals)
        return not (self.requests or self._older[0] or both.others)

    def failed(self, reason: str, *, begun: bool = False) -> None:
        """Learn that a request failed; ``begun``: in the middle of an answer that counted as a success before."""
        self.requests += not begun
        self.failures += 1
        self.in_a_row += 1
        if self.circuit is Circuit.CLOSED and (why := self._too_many()):
            self._on_signal(Signal.TRIPPED, f"{why}, the last one: {reason}")
        else:
            self._on_signal(Signal.FAILED, reason)

    def move(self, signal: Signal) -> bool:
        """Follow the table. Returns whether the circuit changed; then the counts begin anew."""
        before, self.circuit = self.circuit, RULES[self.circuit, signal]
        if self.circuit is before:
            return False
        if before is Circuit.CLOSED:
            self._is_odd = signal is Signal.REFUSED
        self.clear()
        return True

    def clear(self) -> None:
        """Forget all counts."""
        self._older = (0, 0)
        self.requests = self.failures = self.in_a_row = 0
        self.refusals = self._older_refusals = _NONE

    def rotate(self) -> None:
        """Half a window has passed."""
        self._older, self._older_refusals = (self.requests, self.failures), self.refusals
        self.refusals = _NONE
        self.requests = self.failures = 0

    def _too_many(self) -> str:
        limits = self._limits
        if 0 < limits.in_a_row <= self.in_a_row:
            return f"{self.in_a_row} failures in a row"
        requests, failures = self.requests + self._older[0], self.failures + self._older[1]
        if limits.share > 0 and requests >= limits.min_requests and failures >= limits.share * requests:
            return f"{failures} of {requests} requests failed within {limits.window:g} s"
        return ""

    def __repr__(self) -> str:
        return f"<Breaker {self.circuit.value}, {self.failures} of {self.requests} failed, {self.in_a_row} in a row>"
