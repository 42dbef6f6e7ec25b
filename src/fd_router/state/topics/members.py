"""The topic ``members``: instances that registered themselves at one process, and what an admin did to any."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.doubt import Doubt
from fd_router.instances.instance import Health, Instance
from fd_router.instances.registration import Registration
from fd_router.instances.registration_errors import RegistrationError
from fd_router.instances.registration_reader import RegistrationReader
from fd_router.instances.registry import Registry
from fd_router.instances.sources.members import SourceMembers
from fd_router.state.topic import Topic
from fd_router.telemetry.contracts import Log

AGAIN_SECONDS = 10.0
"""How often an instance that goes on to register is told of again: one that another process has lost comes back so."""

REFUSED_SECONDS = 3 * AGAIN_SECONDS
"""An instance that nobody has told of for so long isn't refused any more."""

MOST_LOST = 10_000
"""Instances that are remembered to have been lost, or refused, here; the one that was lost first is forgotten first."""

IN_A_PART = 200
"""Instances in one part of a snapshot."""


class _Entry(msgspec.Struct, array_like=True):
    """An instance: what it registered, as JSON, and whether it was well when this was told.

    Of one that has just registered that is what it sent: so whoever hears of it knows its next heartbeat, too.
    """

    registration: bytes
    is_healthy: bool = True
    is_draining: bool = False


class _Members(msgspec.Struct, omit_defaults=True):
    registered: list[_Entry] = []
    draining: dict[str, bool] = {}  # key → whether an admin wants it to get nothing new
    removed: list[str] = []  # keys, by an admin's word
    bans: dict[str, float] = {}  # key → seconds from now
    deadlines: dict[str, float] = {}  # key of one that drains → in how many seconds its streams leave it


_decoder = msgspec.msgpack.Decoder(_Members)


class Deadlines(Protocol):
    """Who moves streams from instances that drain."""

    def drain_by(self, instance: Instance, seconds: float) -> None:
        """Have the streams leave ``instance`` that are still there in so many seconds."""

    def seconds_left(self, key: str) -> float | None:
        """Return how long the streams of the instance with ``key`` may stay; None: no deadline was set."""


class SharedMembers(Topic):
    """Tells of registrations and of an admin's drains, removals and bans, and does here what others told of.

    What a process' own lists name (``register.yaml``, a discovery) isn't shared: each has its own. What expires, or is
    found to be down, isn't either: that is for each process to find out.
    """

    name = "members"
    is_told_once = True

    def __init__(
        self,
        registry: Registry,
        probed: SourceMembers,
        unprobed: SourceMembers,
        *,
        admit: Callable[[Registration], str],
        probe: Callable[[Instance], None],
        flush: Callable[[], None],
        clock: Callable[[], float],
        log: Log,
    ) -> None:
        """``probed``: of the source whose instances somebody has probed just now; ``unprobed``: of one whose weren't.

        ``admit`` says why a registration may not be taken in here, or nothing; ``probe`` begins a probe of an instance;
        ``flush`` has what is new go out at once.
        """
        self._registry = registry
        self._probed = probed
        self._unprobed = unprobed
        self._admit = admit
        self._probe = probe
        self._flush = flush
        self._clock = clock
        self._log = log
        self.reader = RegistrationReader()
        """Reads what instances send, to this process and to others."""
        self._news = _Members()
        self._has_news = False
        self._is_urgent = False  # some of it isn't just told again
        self._told_at: dict[str, float] = {}  # key → when its registration was last told, by whomever
        self._lost: dict[str, None] = {}  # keys of those that were dropped while they couldn't be reached from here
        self._refused: dict[str, tuple[str, float]] = {}  # key, "" where it can't be read → why, and when it was last
        self._is_taking = False  # what changes now was told by another
        self.deadlines: Deadlines | None = None
        """Set once there is one, which is before others are heard."""
        registry.on_change(self._on_change)

    # what happens here

    def registered(self, registration: Registration, body: bytes) -> None:
        """An instance has registered itself here, by sending ``body``."""
        now, key = self._clock(), registration.key
        known = self._registry.get(key)
        is_news = known is None or known.registration != registration or known.health is not Health.HEALTHY
        if not is_news and now - self._told_at.get(key, float("-inf")) < AGAIN_SECONDS:
            return
        self._told_at[key] = now
        self._news.registered.append(_Entry(body))
        self._on_news(at_once=is_news)

    def removed(self, key: str, ban_secs: float) -> None:
        """An admin has removed an instance here, or banned its key."""
        self._news.removed.append(key)
        if ban_secs:
            self._news.bans[key] = ban_secs
        self._on_news(at_once=True)

    def drained(self, key: str, deadline_secs: float) -> None:
        """An admin has given an instance that drains a deadline here."""
        self._news.deadlines[key] = deadline_secs
        self._on_news(at_once=True)

    def _on_change(self, change: Change) -> None:
        if change.kind is ChangeKind.REMOVED:
            self._told_at.pop(change.instance.key, None)
            if change.instance.doubt is not Doubt.NONE:
                self._lose(change.instance.key)
        elif change.kind in (ChangeKind.UP, ChangeKind.FIRST_UP):
            self._lost.pop(change.instance.key, None)
        elif change.kind in (ChangeKind.DRAINING, ChangeKind.UNDRAINED) and not self._is_taking:
            self._news.draining[change.instance.key] = change.kind is ChangeKind.DRAINING
            self._on_news(at_once=True)

    def _lose(self, key: str) -> None:
        self._lost[key] = None
        if len(self._lost) > MOST_LOST:
            del self._lost[next(iter(self._lost))]

    def _on_news(self, *, at_once: bool) -> None:
        self._has_news = True
        if at_once:
            self._is_urgent = True
            self._flush()

    def refused(self) -> list[str]:
        """Return the keys of what others go on to tell of, and can't be a member here."""
        since = self._clock() - REFUSED_SECONDS
        return [key for key, (_, at) in self._refused.items() if key and at > since]

    # what others are told, and tell

    def gather(self, *, whole: bool) -> bytes | None:
        """See ``Topic``. What is told again goes with a frame that is sent anyway, as many instances tell it."""
        if not self._has_news or not (whole or self._is_urgent):
            return None
        news, self._news = self._news, _Members()
        self._has_news = self._is_urgent = False
        return msgspec.msgpack.encode(news)

    def take(self, process: str, payload: msgspec.Raw) -> None:
        """See ``Topic``."""
        members = _decoder.decode(payload)
        self._is_taking = True
        try:
            for key, seconds in members.bans.items():
                self._registry.ban(key, min(max(0.0, seconds), 366 * 24 * 3600.0))
            for key in members.removed:
                self._registry.remove(key, f"removed by an admin, at {process}")
            for entry in members.registered:
                self._take_registration(process, entry)
            for key, draining in members.draining.items():
                self._registry.set_draining(key, draining)
            self._take_deadlines(members.deadlines)
        finally:
            self._is_taking = False

    def snapshot(self) -> Iterator[bytes]:
        """See ``Topic``."""
        instances = self._registry.all()
        for start in range(0, len(instances), IN_A_PART):
            some = [x for x in instances[start : start + IN_A_PART] if self._registry.get(x.key) is x]  # still
            entries = [
                _Entry(_written(x.registration), x.health is Health.HEALTHY, x.is_draining)
                for x in some
                if not x.source.is_list
            ]
            draining = {x.key: True for x in some if x.is_draining}
            deadlines = {key: left for key in draining if (left := self._seconds_left(key)) is not None}
            yield msgspec.msgpack.encode(_Members(registered=entries, draining=draining, deadlines=deadlines))
        if bans := self._registry.bans():
            yield msgspec.msgpack.encode(_Members(bans=bans))

    def _seconds_left(self, key: str) -> float | None:
        return self.deadlines.seconds_left(key) if self.deadlines is not None else None

    def _take_deadlines(self, told: dict[str, float]) -> None:
        for key, seconds in told.items():
            instance = self._registry.get(key)
            if instance is not None and instance.is_draining and self.deadlines is not None:
                self.deadlines.drain_by(instance, max(0.0, seconds))

    def _take_registration(self, process: str, entry: _Entry) -> None:
        registration: Registration | None
        try:
            registration = self.reader.read(entry.registration)
            why = self._admit(registration)
        except RegistrationError as error:
            why = error.message
            registration = None
        if registration is None or why:
            self._refuse(process, registration.key if registration is not None else "", why)
            return
        key, known = registration.key, self._registry.get(registration.key)
        self._refused.pop(key, None)
        if known is None:
            # Another's word brings nothing back that couldn't be reached from here; a probe does.
            members = self._probed if entry.is_healthy and key not in self._lost else self._unprobed
            if (added := members.upsert(registration)) is not None and entry.is_draining:
                self._registry.set_draining(added.key, True)
        elif known.health is Health.HEALTHY:
            if known.registration != registration and entry.is_healthy:
                self._probed.upsert(registration)
        elif entry.is_healthy:
            self._unprobed.upsert(registration)  # as above
            self._probe(known)
        self._told_at[key] = self._clock()

    def _refuse(self, process: str, key: str, why: str) -> None:
        """Leave one out, which it is told again every few seconds: the log tells it once."""
        before, _ = self._refused.pop(key, ("", 0.0))
        self._refused[key] = why, self._clock()
        if len(self._refused) > MOST_LOST:
            del self._refused[next(iter(self._refused))]
        if before != why:
            self._log.warn(f"A registration that {process} told of can't be used here: {why}")

    def __repr__(self) -> str:
        return f"<SharedMembers, {len(self._told_at)} told of>"


def _written(registration: Registration) -> bytes:
    return msgspec.json.encode(registration.as_json())
