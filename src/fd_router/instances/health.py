"""Health: whether an instance may be chosen. A state machine as a table. No clock, no I/O."""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from fd_router.instances.instance import Health


class Event(Enum):
    """What can be learnt of an instance."""

    __hash__ = object.__hash__  # an Enum's own looks for its name

    PROBE_OK = "probe ok"
    PROBE_FAILED = "probe failed"
    CONNECTION_FAILED = "connection failed"  # a fresh connection, while serving
    REGISTERED = "registered"  # it registered itself, and the probe that this calls for succeeded


class Needs(Enum):
    """What must have come together before a rule's target is reached."""

    ONE = "one"  # this event alone
    FAILURES = "failures"  # ``Thresholds.failures`` failures in a row
    SUCCESSES = "successes"  # ``Thresholds.successes`` successes in a row


class Thresholds(msgspec.Struct, frozen=True):
    """How many probes in a row must agree. Both at least 1."""

    failures: int = 1
    successes: int = 1


class Status(msgspec.Struct, frozen=True, gc=False):
    """An instance's health and the events in a row that point one way. At most one of the counters isn't 0."""

    health: Health = Health.UNHEALTHY
    failures: int = 0
    successes: int = 0


class Rule(NamedTuple):
    """Where an event leads, once enough of them came."""

    target: Health
    needs: Needs = Needs.ONE


RULES: MappingProxyType[tuple[Health, Event], Rule] = MappingProxyType({
    (Health.HEALTHY, Event.PROBE_OK): Rule(Health.HEALTHY),
    (Health.HEALTHY, Event.PROBE_FAILED): Rule(Health.UNHEALTHY, Needs.FAILURES),
    (Health.HEALTHY, Event.CONNECTION_FAILED): Rule(Health.SUSPECT),
    (Health.HEALTHY, Event.REGISTERED): Rule(Health.HEALTHY),
    # A suspect is a question already asked: one probe decides, whatever the thresholds.
    (Health.SUSPECT, Event.PROBE_OK): Rule(Health.HEALTHY),
    (Health.SUSPECT, Event.PROBE_FAILED): Rule(Health.UNHEALTHY),
    (Health.SUSPECT, Event.CONNECTION_FAILED): Rule(Health.SUSPECT),
    # The probe behind this registration may be older than the failed connection; the one under way decides.
    (Health.SUSPECT, Event.REGISTERED): Rule(Health.SUSPECT),
    (Health.UNHEALTHY, Event.PROBE_OK): Rule(Health.HEALTHY, Needs.SUCCESSES),
    (Health.UNHEALTHY, Event.PROBE_FAILED): Rule(Health.UNHEALTHY),
    # From a request that was sent there before it became unhealthy.
    (Health.UNHEALTHY, Event.CONNECTION_FAILED): Rule(Health.UNHEALTHY),
    # /register probes as often as the threshold asks before it comes to this.
    (Health.UNHEALTHY, Event.REGISTERED): Rule(Health.HEALTHY),
})  # fmt: skip

_SUCCESSES = frozenset({Event.PROBE_OK, Event.REGISTERED})


def advance(status: Status, event: Event, thresholds: Thresholds) -> Status:
    """Give the status after ``event``. Compare ``health`` before and after to see what changed."""
    if event in _SUCCESSES:
        failures, successes = 0, status.successes + 1
    else:
        failures, successes = status.failures + 1, 0
    rule = RULES[status.health, event]
    needs, reached = rule.needs, True
    if needs is Needs.FAILURES:
        reached = failures >= thresholds.failures
    elif needs is Needs.SUCCESSES:
        reached = successes >= thresholds.successes
    return Status(rule.target if reached else status.health, failures, successes)
