"""The fleet's circuit breakers: opens, tries and closes circuits, and never leaves too few instances."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

import msgspec

from fd_router.capacity.breaker import Breaker, Circuit, Signal, TripLimits
from fd_router.capacity.limits import Limits
from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Health, Instance
from fd_router.instances.registry import Registry
from fd_router.telemetry.contracts import Log

TICK_SECONDS = 0.1
"""How late the end of an open circuit's time may be noticed."""

PANIC_LINE_SECONDS = 10.0
"""A role's panic is told in the log no more often."""

TRIAL = "trial"

_KINDS = {
    Circuit.OPEN: ChangeKind.CIRCUIT_OPEN,
    Circuit.HALF_OPEN: ChangeKind.CIRCUIT_HALF_OPEN,
    Circuit.CLOSED: ChangeKind.CIRCUIT_CLOSED,
}


class BreakerOptions(msgspec.Struct, frozen=True):
    """When circuits open, for how long (seconds), and which share of a role's instances must be left."""

    trip: TripLimits = TripLimits()
    open_secs: float = 1.0
    max_open_secs: float = 60.0
    min_share: float = 0.5


class Counters(Protocol):
    """What is counted."""

    def opened(self, url: str) -> None:
        """A circuit opened."""

    def panicked(self, role: str) -> None:
        """A circuit should have opened, or stayed open, and did not: too few instances would have been left."""


class _Line:
    """An instance's breaker and its history."""

    __slots__ = ("breaker", "changed_at", "delay", "instance", "openings")

    def __init__(self, instance: Instance, breaker: Breaker) -> None:
        self.instance = instance
        self.breaker = breaker
        self.openings = 0  # in a row, without a long enough time between them
        self.delay = 0.0  # seconds that it is open, or was the last time
        self.changed_at = float("-inf")


class Breakers:
    """Gives each member a breaker and moves its circuit.

    An open circuit's time doubles with each opening that follows a short time after the one before, and is shortened by
    up to a fifth at random, so that routers don't try all at one moment.
    """

    def __init__(
        self,
        registry: Registry,
        limits: Limits,
        options: BreakerOptions,
        *,
        clock: Callable[[], float],
        rng: random.Random,
        log: Log,
        counters: Counters,
    ) -> None:
        self._registry = registry
        self._limits = limits
        self._options = options
        self._clock = clock
        self._random = rng
        self._log = log
        self._counters = counters
        self._lines: dict[str, _Line] = {}
        self._moving: dict[str, _Line] = {}  # those that aren't closed
        self._told: dict[str, float] = {}  # role → when its last panic was told
        self._rotated = clock()
        registry.on_change(self._on_change)

    async def run(self) -> None:
        """Look at the clock until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.tick()

    def tick(self) -> None:
        """Try the circuits that were open for long enough, and let the window slide."""
        now = self._clock()
        for line in tuple(self._moving.values()):
            if line.breaker.circuit is Circuit.OPEN and now >= line.changed_at + line.delay:
                self._move(line, Signal.WAITED, f"after {line.delay:.1f} s")
        if now >= self._rotated + self._options.trip.window / 2:
            self._rotated = now
            for line in self._lines.values():
                line.breaker.rotate()

    def circuits(self) -> Iterator[tuple[Instance, Circuit]]:
        """Give each member with the state of its circuit."""
        return ((line.instance, line.breaker.circuit) for line in self._lines.values())

    # what the registry tells

    def _on_change(self, change: Change) -> None:
        key, kind = change.instance.key, change.kind
        if kind is ChangeKind.REMOVED:
            line = self._lines.pop(key, None)
            self._moving.pop(key, None)
            if line is not None:
                line.instance.breaker = None
                line.instance.is_ejected = False
        elif key not in self._lines:
            breaker = Breaker(self._options.trip, partial(self._on_signal, key))
            self._lines[key] = _Line(change.instance, breaker)
            change.instance.breaker = breaker
        elif kind is ChangeKind.DOWN:
            self._lines[key].breaker.clear()
            self._on_signal(key, Signal.RESTARTED, "it is down, probes decide now")
        for role in {line.instance.registration.role for line in self._moving.values()}:
            self._readmit(role)

    # what breakers tell

    def _on_signal(self, key: str, signal: Signal, why: str) -> None:
        line = self._lines.get(key)
        if line is None:
            return
        if signal is Signal.TRIPPED and self._would_panic(line.instance):
            line.breaker.clear()
            self._tell_panic(line.instance, f"stays closed in spite of {why}")
        else:
            self._move(line, signal, why)

    def _move(self, line: _Line, signal: Signal, why: str) -> None:
        was_on_trial = line.breaker.circuit is Circuit.HALF_OPEN
        if not line.breaker.move(signal):
            return
        instance, circuit, now = line.instance, line.breaker.circuit, self._clock()
        if circuit is Circuit.OPEN:
            self._set_delay(line, now)
            self._counters.opened(instance.url)
            why = f"{'the trial failed: ' if was_on_trial else ''}{why}; no requests for {line.delay:.1f} s"
        line.changed_at = now
        if circuit is Circuit.CLOSED:
            self._moving.pop(instance.key, None)
        else:
            self._moving[instance.key] = line
        # One more than what still runs there from before.
        self._limits.hold(instance, TRIAL, instance.running + 1 if circuit is Circuit.HALF_OPEN else 0)
        self._registry.bar(instance, barred=circuit is Circuit.OPEN, kind=_KINDS[circuit], detail=why)

    def _set_delay(self, line: _Line, now: float) -> None:
        options = self._options
        calm = now - line.changed_at > max(line.delay, options.trip.window)
        line.openings = 1 if calm else line.openings + 1
        longest = min(options.max_open_secs, options.open_secs * 2.0 ** min(line.openings - 1, 60))
        line.delay = longest * (1.0 - self._random.random() / 5)

    # panic

    def _would_panic(self, instance: Instance) -> bool:
        needed, serving = self._share(instance.registration.role)
        return serving - (instance.health is Health.HEALTHY) < needed

    def _share(self, role: str) -> tuple[float, int]:
        """Return how many instances of ``role`` must be left, and how many are."""
        proven = self._registry.proven(role)
        serving = [x for x in proven if x.health is not Health.UNHEALTHY and x.key not in self._moving]
        return self._options.min_share * len(proven), len(serving)

    def _readmit(self, role: str) -> None:
        """Close circuits again, those that opened first, until enough instances are left."""
        for line in sorted(self._moving.values(), key=lambda each: each.changed_at):
            needed, serving = self._share(role)
            if serving >= needed:
                return
            if line.instance.registration.role == role and line.instance.health is not Health.UNHEALTHY:
                self._tell_panic(line.instance, "is closed again")
                self._move(line, Signal.NEEDED, "too few instances are left")

    def _tell_panic(self, instance: Instance, what: str) -> None:
        role, now = instance.registration.role, self._clock()
        self._counters.panicked(role)
        if now - self._told.get(role, float("-inf")) >= PANIC_LINE_SECONDS:
            self._told[role] = now
            share = f"{self._options.min_share:.0%} of the {role} instances must be left"
            self._log.warn(f"Panic: circuit of {instance.url} {what}: {share}")

    def __repr__(self) -> str:
        return f"<Breakers {len(self._lines)}, not closed: {len(self._moving)}>"
