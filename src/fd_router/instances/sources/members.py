"""The members of a source: how register API, lists and discoveries put instances into the fleet, all in one way.

When several sources name one instance, it is the member of the highest one: of ``register.yaml`` before the other
lists, of the list that is configured first before the next, of any list before those that register themselves. Its data
are those that its source named last, or what it has said of itself since. When its list drops it, the next list that
names it takes it over; without one it is removed, and may register itself again if it is alive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import msgspec

from fd_router.http.pace import Pace
from fd_router.instances.instance import Instance, Readiness
from fd_router.instances.registration import Registration
from fd_router.instances.registration_errors import RegistrationError
from fd_router.instances.registry import Registry
from fd_router.instances.source import Source
from fd_router.instances.sources.networks import Hosts, why_outside
from fd_router.instances.sources.source_health import SourceHealth
from fd_router.telemetry.contracts import Log

Accept = Callable[[Registration], None]
"""Raises RegistrationError for an instance that can't be a member here: its role isn't one of the router's mode."""


class Diff(msgspec.Struct, frozen=True):
    """What a new list changed among a source's members, by key, in order."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class SourceMembers:
    """What one source may do with the fleet. For the loop's thread; nothing waits."""

    def __init__(self, fleet: FleetSources, source: Source, health: SourceHealth) -> None:
        self.source = source
        self.health = health
        self.listed: dict[str, Registration] = {}
        """What a list names now, by key; empty for the others."""
        self.warned: dict[str, str] = {}
        """What the log told last of an instance that isn't the source's member though it names it, by key."""
        self._fleet = fleet

    def upsert(self, registration: Registration, *, index: int | None = None) -> Instance | None:
        """Name an instance, or say something new of it; ``index`` is its position in a list, for the log.

        A list that says of an instance what it said before changes nothing: what that registered of itself stays.
        Returns the instance, or None where it is left out, which the log tells: its role isn't the router's mode's, or
        an admin removed it and banned its key.
        """
        return self._fleet.upsert(self, registration, index)

    def remove(self, key: str, reason: str = "") -> bool:
        """Name the instance with ``key`` no more; requests that run there go on. Returns whether it was a member."""
        return self._fleet.remove(self, key, reason or f"no longer in {self.source.name}")

    def set_readiness(self, key: str, readiness: Readiness) -> None:
        """Say whether the instance with ``key`` is to be given requests, if it is the source's member."""
        self._fleet.set_readiness(self, key, readiness)

    def replace(self, registrations: Iterable[Registration], *, indices: Iterable[int] = (), reason: str = "") -> Diff:
        """Make these the source's instances: name them, and no more those that it named before.

        ``indices`` are their positions in a list, for the log; ``reason`` tells why the others go.
        """
        before = self._own()
        for _ in self._replace(before, registrations, indices, reason):
            pass
        return self._since(before)

    async def replace_in_slices(
        self, registrations: Iterable[Registration], *, indices: Iterable[int] = (), reason: str = ""
    ) -> Diff:
        """Do the same for thousands, while others have a turn: the fleet has some of the old and some of the new."""
        before, pace = self._own(), Pace()
        for _ in self._replace(before, registrations, indices, reason):
            await pace.breathe()
        return self._since(before)

    def _replace(
        self, before: set[str], registrations: Iterable[Registration], indices: Iterable[int], reason: str
    ) -> Iterator[None]:
        """Replace them one by one; ``before``: the keys of those that are the source's members."""
        self.health.worked()
        wanted: dict[str, Registration] = {}
        for registration in registrations:  # which are made just then, mostly
            wanted[registration.key] = registration
            yield
        for key in sorted({*self.listed, *before} - wanted.keys()):
            self.remove(key, reason)
            yield
        self.warned = {key: why for key, why in self.warned.items() if key in wanted}
        numbers = dict(zip(wanted, indices, strict=False))
        for key, registration in wanted.items():
            self.upsert(registration, index=numbers.get(key))
            yield

    def _since(self, before: set[str]) -> Diff:
        after = self._own()
        return Diff(tuple(sorted(after - before)), tuple(sorted(before - after)))

    def warn(self, text: str) -> None:
        """Write a warning to the router's log."""
        self._fleet.warn(text)

    def _own(self) -> set[str]:
        return self._fleet.keys_of(self.source)

    def __repr__(self) -> str:
        return f"<SourceMembers of {self.source.name}: {len(self._own())}>"


class FleetSources:
    """All sources of one fleet, and what happens where they name the same instance."""

    def __init__(self, registry: Registry, accept: Accept, *, log: Log, networks: Hosts | None = None) -> None:
        """``networks``: those in which instances must be that a source which heeds them names; None: any."""
        self._registry = registry
        self._accept = accept
        self._networks = networks
        self._log = log
        self._lists: list[SourceMembers] = []

    def members_of(self, source: Source) -> SourceMembers:
        """Return what ``source`` is to work with. Of lists, no two may have the same rank."""
        members = SourceMembers(self, source, SourceHealth(source.name, self._log))
        if source.is_list:
            self._lists.append(members)
            self._lists.sort(key=lambda each: each.source.rank, reverse=True)
        return members

    def states(self) -> Iterator[tuple[str, SourceHealth, int]]:
        """Give each list's name, its health, and how many instances are its members, for the metrics."""
        numbers = Counter(instance.source.name for instance in self._registry.all())
        for each in self._lists:
            yield each.source.name, each.health, numbers[each.source.name]

    def keys_of(self, source: Source) -> set[str]:
        """Return the keys of the source's members."""
        return {instance.key for instance in self._registry.all() if instance.source == source}

    def upsert(self, members: SourceMembers, registration: Registration, index: int | None) -> Instance | None:
        """See ``SourceMembers.upsert``."""
        source, key = members.source, registration.key
        if why := self._why_not(source, registration):
            self._warn(members, registration, f"left out: {why}")
            self.remove(members, key, why)
            return None
        known = self._registry.get(key)
        if source.is_list:
            said, members.listed[key] = members.listed.get(key), registration
            if known is not None and known.source.rank > source.rank:
                self._warn(members, registration, f"a member of {known.source.name}, which comes first")
                return known
            if known is not None and known.source == source and said == registration:
                return known
            members.warned.pop(key, None)
        return self._registry.register(registration, source, index=index)

    def remove(self, members: SourceMembers, key: str, reason: str) -> bool:
        """See ``SourceMembers.remove``."""
        members.listed.pop(key, None)
        instance = self._registry.get(key)
        if instance is None or instance.source != members.source:
            return False
        for other in self._lists:
            if (registration := other.listed.get(key)) is not None:
                instance.source = other.source
                self._registry.set_readiness(instance, Readiness.READY)
                other.warned.pop(key, None)
                self._registry.register(registration, other.source)
                return True
        return self._registry.remove(key, reason) is not None

    def set_readiness(self, members: SourceMembers, key: str, readiness: Readiness) -> None:
        """See ``SourceMembers.set_readiness``."""
        instance = self._registry.get(key)
        if instance is not None and instance.source == members.source:
            self._registry.set_readiness(instance, readiness)

    def warn(self, text: str) -> None:
        """See ``SourceMembers.warn``."""
        self._log.warn(text)

    def _why_not(self, source: Source, registration: Registration) -> str:
        """Say why an instance can't be a member, or nothing."""
        try:
            self._accept(registration)
        except RegistrationError as error:
            return error.message
        if source.heeds_networks and (why := why_outside(self._networks, registration.host_ip)):
            return why
        banned = source.heeds_bans and self._registry.banned_secs(registration.key) > 0
        return "removed by an admin, and banned" if banned else ""

    def _warn(self, members: SourceMembers, registration: Registration, why: str) -> None:
        """Say what becomes of an instance that ``members`` name, once as long as that is the same."""
        if members.warned.get(registration.key) != why:
            members.warned[registration.key] = why
            self._log.warn(f"{registration.url}, which {members.source.name} names, is {why}")

    def __repr__(self) -> str:
        return f"<FleetSources, lists: {', '.join(each.source.name for each in self._lists) or 'none'}>"
