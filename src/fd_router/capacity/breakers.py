"""The fleet's circuit breakers: they open, try and close circuits, and never leave a group too few instances."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

import msgspec

from fd_router.capacity.breaker import Breaker, Circuit, Signal, TripLimits
from fd_router.capacity.limits import Limits
from fd_router.capacity.ticking import Ticking
from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.group_key import GroupKey
from fd_router.instances.instance import Health, Instance
from fd_router.instances.registry import Registry
from fd_router.telemetry.contracts import Log

PANIC_LINE_SECONDS = 10.0
"""A group's panic is told in the log no more often."""

OTHERS_SERVE = 0.9
"""Share of their requests that the others must answer well for one that refuses everybody to be the odd one."""

TRIAL = "trial"

_OPENING = (Signal.TRIPPED, Signal.REFUSED)

_KINDS = {
    Circuit.OPEN: ChangeKind.CIRCUIT_OPEN,
    Circuit.HALF_OPEN: ChangeKind.CIRCUIT_HALF_OPEN,
    Circuit.CLOSED: ChangeKind.CIRCUIT_CLOSED,
}


class BreakerOptions(msgspec.Struct, frozen=True):
    """When circuits open, for how long (seconds), and which share of a group's instances must be left."""

    trip: TripLimits = TripLimits()
    open_secs: float = 1.0
    max_open_secs: float = 60.0
    min_share: float = 0.5


class Counters(Protocol):
    """What is counted."""

    def opened(self, url: str) -> None:
        """A circuit opened."""

    def panicked(self, group: str) -> None:
        """A circuit should have opened, or stayed open, and did not: the group would have had too few instances."""


class Trials(Protocol):
    """Who has a request on trial, where several routers would; see ``capacity.shared_trials``."""

    def may(self, key: str) -> bool:
        """Whether this router may try the instance with ``key`` now."""

    @property
    def over(self) -> Callable[[str, float], None]:
        """Told when a trial has ended: the key, and for how many seconds the circuit is open again; 0: closed."""


class _Record:
    """An instance's breaker, and the history of its circuit."""

    __slots__ = ("breaker", "changed_at", "delay", "instance", "openings")

    def __init__(self, instance: Instance, breaker: Breaker) -> None:
        self.instance = instance
        self.breaker = breaker
        self.openings = 0  # in a row, without a long enough time between them
        self.delay = 0.0  # seconds that it is open, or was the last time
        self.changed_at = float("-inf")


class Breakers(Ticking):
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
        trials: Trials | None = None,
    ) -> None:
        """``trials``: who may try; None: this router is alone."""
        self._trials = trials
        self._registry = registry
        self._limits = limits
        self._options = options
        self._clock = clock
        self._random = rng
        self._log = log
        self._counters = counters
        self._records: dict[str, _Record] = {}
        self._moving: dict[str, _Record] = {}  # those that aren't closed
        self._told: dict[GroupKey, float] = {}  # when its last panic was told
        self._rotated = clock()
        registry.on_change(self._on_change)

    def tick(self) -> None:
        """Try the circuits that were open for long enough, and let the window slide."""
        now = self._clock()
        for record in tuple(self._moving.values()):
            has_waited = record.breaker.circuit is Circuit.OPEN and now >= record.changed_at + record.delay
            if has_waited and (self._trials is None or self._trials.may(record.instance.key)):
                self._move(record, Signal.WAITED, f"after {record.delay:.1f} s")
        if now >= self._rotated + self._options.trip.window / 2:
            self._rotated = now
            for record in self._records.values():
                record.breaker.rotate()

    def on_trial_elsewhere(self, key: str, seconds: float) -> None:
        """Another router has tried an instance: take its word for this one's trial, if that is open too."""
        record = self._records.get(key)
        if record is None or record.breaker.circuit is not Circuit.OPEN:
            return
        if seconds <= 0:
            self._move(record, Signal.NEEDED, "a trial of another router went well")
        else:
            record.changed_at, record.delay = self._clock(), min(seconds, self._options.max_open_secs)

    def circuits(self) -> Iterator[tuple[Instance, Circuit]]:
        """Give each member with the state of its circuit."""
        return ((record.instance, record.breaker.circuit) for record in self._records.values())

    # what the registry tells

    def _on_change(self, change: Change) -> None:
        key, kind = change.instance.key, change.kind
        if kind is ChangeKind.REMOVED:
            record = self._records.pop(key, None)
            self._moving.pop(key, None)
            if record is not None:
                record.instance.breaker = None
                record.instance.is_ejected = False
        elif key not in self._records:
            breaker = Breaker(self._options.trip, partial(self._on_signal, key))
            self._records[key] = _Record(change.instance, breaker)
            change.instance.breaker = breaker
        elif kind is ChangeKind.DOWN:
            self._records[key].breaker.clear()
            self._on_signal(key, Signal.RESTARTED, "it is down, probes decide now")
        for group in {group.key for record in self._moving.values() for group in record.instance.groups}:
            self._readmit(group)

    # what breakers tell

    def _on_signal(self, key: str, signal: Signal, why: str) -> None:
        record = self._records.get(key)
        if record is None:
            return
        if signal is Signal.REFUSED and record.breaker.circuit is Circuit.CLOSED:
            if not self._others_serve(record.instance):
                return
            why = f"{why}, and the others serve"
        if signal in _OPENING and (group := self._panicking(record.instance)) is not None:
            record.breaker.clear()
            self._tell_panic(record.instance, group, f"stays closed in spite of {why}")
        else:
            self._move(record, signal, why)

    def _move(self, record: _Record, signal: Signal, why: str) -> None:
        was_on_trial = record.breaker.circuit is Circuit.HALF_OPEN
        if not record.breaker.move(signal):
            return
        instance, circuit, now = record.instance, record.breaker.circuit, self._clock()
        if circuit is Circuit.OPEN:
            self._set_delay(record, now)
            self._counters.opened(instance.url)
            why = f"{'the trial failed: ' if was_on_trial else ''}{why}; no requests for {record.delay:.1f} s"
        record.changed_at = now
        if circuit is Circuit.CLOSED:
            self._moving.pop(instance.key, None)
        else:
            self._moving[instance.key] = record
        # One more than what still runs there from before.
        self._limits.cap(instance, TRIAL, instance.running + 1 if circuit is Circuit.HALF_OPEN else 0)
        self._registry.set_ejected(instance, circuit is Circuit.OPEN, _KINDS[circuit], why)
        if was_on_trial and self._trials is not None:
            self._trials.over(instance.key, record.delay if circuit is Circuit.OPEN else 0.0)

    def _others_serve(self, instance: Instance) -> bool:
        """Whether the other instances of its groups answer nearly all requests well."""
        mine = {group.key for group in instance.groups}
        others = [
            record.breaker.outcome()
            for record in self._records.values()
            if record.instance is not instance and any(group.key in mine for group in record.instance.groups)
        ]
        good, number = sum(outcome[0] for outcome in others), sum(outcome[1] for outcome in others)
        return number > 0 and good >= OTHERS_SERVE * number

    def _set_delay(self, record: _Record, now: float) -> None:
        options = self._options
        calm = now - record.changed_at > max(record.delay, options.trip.window)
        record.openings = 1 if calm else record.openings + 1
        longest = min(options.max_open_secs, options.open_secs * 2.0 ** min(record.openings - 1, 60))
        record.delay = longest * (1.0 - self._random.random() / 5)

    # panic

    def _panicking(self, instance: Instance) -> GroupKey | None:
        """Return the group of ``instance`` that would have too few instances left without it."""
        for group in instance.groups:
            needed, serving = self._share(group.key)
            if serving - (instance.health is Health.HEALTHY) < needed:
                return group.key
        return None

    def _share(self, group: GroupKey) -> tuple[float, int]:
        """Return how many instances of the group must be left, and how many are."""
        proven = self._registry.proven(group)
        serving = [x for x in proven if x.health is not Health.UNHEALTHY and x.key not in self._moving]
        return self._options.min_share * len(proven), len(serving)

    def _readmit(self, group: GroupKey) -> None:
        """Close circuits again, those that opened first, until enough instances of the group are left."""
        for record in sorted(self._moving.values(), key=lambda each: each.changed_at):
            needed, serving = self._share(group)
            if serving >= needed:
                return
            instance = record.instance
            if any(each.key == group for each in instance.groups) and instance.health is not Health.UNHEALTHY:
                self._tell_panic(instance, group, "is closed again")
                self._move(record, Signal.NEEDED, "too few instances are left")

    def _tell_panic(self, instance: Instance, group: GroupKey, what: str) -> None:
        now = self._clock()
        self._counters.panicked(str(group))
        if now - self._told.get(group, float("-inf")) >= PANIC_LINE_SECONDS:
            self._told[group] = now
            share = f"{self._options.min_share:.0%} of the {group} instances must be left"
            self._log.warn(f"Panic: circuit of {instance.url} {what}: {share}")

    def __repr__(self) -> str:
        return f"<Breakers {len(self._records)}, not closed: {len(self._moving)}>"
