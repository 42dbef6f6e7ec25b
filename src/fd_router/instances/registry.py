"""The registry: the members of the fleet and their groups. Changes only through methods, does no I/O."""

from __future__ import annotations

from collections.abc import Callable, Container
from operator import attrgetter

from fd_router.config.dotted_path import say
from fd_router.config.live import LiveConfig
from fd_router.engines.dialect import Dialect
from fd_router.engines.dialects import Dialects
from fd_router.engines.model_cards import ModelCard, told_cards
from fd_router.instances.access_rules import AccessRules
from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.doubt import Doubt, doubt_of
from fd_router.instances.group_key import ANY_MODEL, GroupKey
from fd_router.instances.grouping import Grouping
from fd_router.instances.groups import Group
from fd_router.instances.health import Event, Status, Thresholds, advance
from fd_router.instances.instance import Health, Instance, Readiness
from fd_router.instances.log import log_change
from fd_router.instances.model_sets import ServedModels
from fd_router.instances.registration import Registration
from fd_router.instances.registration_keys import ROLES, Role
from fd_router.instances.source import REGISTER_API, Source
from fd_router.telemetry.contracts import Log

CERTAIN_PROBES = 3
"""Probes in a row that make it certain: one may be refused by an instance that is about to end what it has."""

_READINESS = {
    Readiness.READY: ChangeKind.READY,
    Readiness.UNREADY: ChangeKind.UNREADY,
    Readiness.TERMINATING: ChangeKind.TERMINATING,
}

Listener = Callable[[Change], None]


class _Member:
    """What the registry keeps beside an instance."""

    __slots__ = ("detected", "index", "instance", "status", "told_dead", "told_not_up", "unhealthy_since")

    def __init__(self, instance: Instance, now: float) -> None:
        self.instance = instance
        self.status = Status()
        self.index: int | None = None  # its position in its source's list, where the log tells it
        self.detected = ""  # the dialect that it was found to speak, where it tells none
        self.told_not_up = False
        self.told_dead = False
        self.unhealthy_since = now


class Registry:
    """All instances by key, the groups from which requests' candidates come, and every change of their health.

    Not for threads: all methods are called on the loop's thread, and none of them waits.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        log: Log,
        live: LiveConfig,
        dialects: Dialects | None = None,
        access: AccessRules | None = None,
    ) -> None:
        """``dialects``: those that instances may have; None: the router's own. ``access``: None: no TLS, no keys."""
        self.dialects = Dialects() if dialects is None else dialects
        self.access = AccessRules() if access is None else access
        self._clock = clock
        self._log = log
        self._live = live
        self._members: dict[str, _Member] = {}
        self._banned: dict[str, float] = {}  # key → when it may register again
        self._removed_in_use: dict[str, Instance] = {}  # no members any more, but requests still run there
        self._grouping = Grouping(lambda: live.current.protection.min_serving_percent / 100)
        self._listeners: list[Listener] = [lambda change: log_change(log, change)]

    @property
    def thresholds(self) -> Thresholds:
        """How many probes in a row must agree, by the options in force."""
        manager = self._live.current.manager
        return Thresholds(manager.health_failure_threshold, manager.health_success_threshold)

    def on_change(self, listener: Listener) -> None:
        """Call ``listener`` after each change from now on. One that raises is logged, and the others hear of it."""
        self._listeners.append(listener)

    def on_removed(self, callback: Callable[[Instance], None]) -> None:
        """Call ``callback`` with each instance that is no member any more."""
        self.on_change(lambda change: callback(change.instance) if change.kind is ChangeKind.REMOVED else None)

    def register(
        self, registration: Registration, source: Source = REGISTER_API, *, index: int | None = None
    ) -> Instance:
        """Take an instance in, or replace the data of the one with the same key; its counts stay.

        It becomes a member of ``source`` (at ``index`` of its list), unless it has one that is as high or higher; that
        one's data give way only to what the instance says of itself. What the source has probed may be chosen from now
        on; the others stay as they are, unhealthy at first, until a probe succeeds.
        """
        member = self._members.get(registration.key)
        if member is not None and member.instance.url != registration.url:  # another name in all logs and metrics
            self.remove(registration.key, f"it is {registration.url} now")
            member = None
        is_new = member is None
        if member is None:
            member = self._admit(registration)
            member.instance.source, member.index = source, index
        elif source == member.instance.source or source.rank > member.instance.source.rank:
            is_taken_over = source != member.instance.source
            member.instance.source, member.index = source, index
            if is_taken_over:
                self.set_readiness(member.instance, Readiness.READY)  # what the other source said of it is over
            self._replace(member, registration)
        elif source.is_probed:
            self._replace(member, registration)
        if source.is_probed:
            self._learn(member, Event.REGISTERED)
        if is_new:
            self._notify(ChangeKind.ADDED, member)
        return member.instance

    def remove(self, key: str, reason: str = "removed") -> Instance | None:
        """Forget the instance with ``key``, whatever its state; requests running there go on. None if there is none."""
        member = self._members.pop(key, None)
        if member is None:
            return None
        instance = member.instance
        instance.health = Health.UNHEALTHY
        if _is_busy(instance):
            self._removed_in_use[key] = instance
        self._grouping.leave(instance)
        self._notify(ChangeKind.REMOVED, member, reason)
        return instance

    def ban(self, key: str, seconds: float) -> None:
        """Don't let ``key`` register itself for so long; ``banned_secs`` tells who asks. 0 lifts the ban."""
        self._banned[key] = self._clock() + seconds

    def banned_secs(self, key: str) -> float:
        """Return how long ``key`` may not register itself yet, 0 if it may."""
        left = self._banned.get(key, 0.0) - self._clock()
        if left <= 0:
            self._banned.pop(key, None)
        return max(0.0, left)

    def bans(self) -> dict[str, float]:
        """Return the keys that may not register themselves, and for how many seconds."""
        return {key: seconds for key in tuple(self._banned) if (seconds := self.banned_secs(key)) > 0}

    def set_draining(self, key: str, draining: bool) -> Instance | None:
        """Give the member with ``key`` nothing new, whatever it registers, or do so again. None if there is none."""
        member = self._members.get(key)
        if member is None:
            return None
        if member.instance.is_draining is not draining:
            member.instance.is_draining = draining
            self._grouping.refresh(member.instance)
            self._notify(ChangeKind.DRAINING if draining else ChangeKind.UNDRAINED, member)
        return member.instance

    def removed_in_use(self) -> tuple[Instance, ...]:
        """Return the instances that are no members any more, but where requests still run, ordered by URL."""
        return tuple(sorted((x for x in self._removed_in_use.values() if _is_busy(x)), key=attrgetter("url")))

    def get(self, key: str) -> Instance | None:
        """Return the member with ``key`` (``10.0.0.1:8000``, ``[::1]:8000``), or None."""
        member = self._members.get(key)
        return member.instance if member is not None else None

    def all(self) -> tuple[Instance, ...]:
        """Return all members, whatever their health, ordered by URL."""
        return self._grouping.members

    def in_service(self, role: str) -> tuple[Instance, ...]:
        """Return the members of ``role`` that aren't unhealthy, ordered by URL: what ``/registered`` shows."""
        return tuple(x for x in self.all() if x.registration.role == role and x.health is not Health.UNHEALTHY)

    def counts(self) -> dict[str, int]:
        """Return how many members are in service, by role."""
        return {role: len(self.in_service(role)) for role in ROLES}

    def group(self, role: Role, model: str = ANY_MODEL) -> Group:
        """Return the group of ``role`` and ``model``, the same one each time.

        Which models there are is for registrations and the configuration to say: a request's word made groups for
        ever.
        """
        return self._grouping.group(role, model)

    @property
    def served_models(self) -> ServedModels:
        """What the members serve, the same object until that changes."""
        return self._grouping.served

    def available(self, role: Role) -> tuple[Instance, ...]:
        """Return the members of ``role`` that take new requests, whatever model they serve, ordered by URL."""
        return tuple(x for x in self.all() if x.registration.role == role and x.takes_new)

    def learn_models(self, key: str, models: tuple[ModelCard, ...]) -> None:
        """Learn what the instance with ``key`` serves, by its own list. What it registered with counts for more."""
        member = self._members.get(key)
        if member is None:
            self._grouping.learn_before(key, models)
        elif not member.instance.registration.models:
            self._set_models(member, models)

    def groups(self) -> tuple[Group, ...]:
        """Return all groups, those without members too."""
        return self._grouping.all()

    def forget_groups(self, models: Container[str]) -> None:
        """Let go of groups without members, of models that aren't among ``models``."""
        self._grouping.forget(models)

    def proven(self, key: GroupKey) -> tuple[Instance, ...]:
        """Return the members of the group that have been up, and that nobody's word keeps from requests."""
        proven = (member.instance for member in self._members.values() if member.instance.is_proven)
        wanted = (x for x in proven if any(group.key == key for group in x.groups))
        serving = (x for x in wanted if x.readiness is Readiness.READY)
        return tuple(x for x in serving if not (x.registration.is_paused or x.is_draining))

    def set_ejected(self, instance: Instance, ejected: bool, kind: ChangeKind, detail: str) -> None:
        """Let a healthy instance not be chosen, or be chosen again, and tell of it as ``kind``."""
        member = self._member_of(instance)
        if member is not None:
            instance.is_ejected = ejected
            self._grouping.refresh(instance)
            self._notify(kind, member, detail)

    def set_readiness(self, instance: Instance, readiness: Readiness) -> None:
        """Learn what an instance's source says of it, whatever its health."""
        member = self._member_of(instance)
        if member is not None and instance.readiness is not readiness:
            instance.readiness = readiness
            self._grouping.refresh(instance)
            self._notify(_READINESS[readiness], member)

    def dialect_of(self, registration: Registration) -> Dialect:
        """Return the dialect that an instance tells, or was found to speak."""
        member = self._members.get(registration.key)
        return self.dialects.named(registration.dialect or (member.detected if member is not None else ""))

    def set_detected(self, instance: Instance, name: str) -> None:
        """Learn which dialect an instance speaks that tells none."""
        member = self._member_of(instance)
        if member is not None and not instance.registration.dialect:
            member.detected = name
            instance.dialect = self.dialects.named(name)
            self._grouping.refresh(instance)  # who can pair with whom may have changed

    def match_anew(self, instance: Instance) -> None:
        """Let it be found out anew with whom an instance can pair: more is known of it."""
        self._grouping.refresh(instance)

    def set_cooling(self, instance: Instance, *, cooling: bool) -> None:
        """Let an instance not be chosen for the moment that it asked for, or be chosen again."""
        instance.is_cooling = cooling
        self._grouping.refresh(instance)

    def set_stuck(self, instance: Instance, *, stuck: bool) -> None:
        """Let an instance not be chosen whose streams are silent, or be chosen again."""
        instance.is_stuck = stuck
        self._grouping.refresh(instance)

    def probe_succeeded(self, instance: Instance) -> None:
        """Learn that a probe of ``instance`` succeeded."""
        self._learn(self._member_of(instance), Event.PROBE_OK, doubt=min(instance.doubt, Doubt.BROKEN))

    def probe_failed(self, instance: Instance, detail: str, doubt: Doubt = Doubt.SICK) -> None:
        """Learn that a probe of ``instance`` failed, and why."""
        self._learn(self._member_of(instance), Event.PROBE_FAILED, detail, doubt)

    def connection_failed(self, instance: Instance, reason: str) -> None:
        """Learn that a fresh connection to ``instance`` failed: it isn't chosen until a probe succeeds."""
        doubt = doubt_of(reason)
        self._learn(self._member_of(instance), Event.CONNECTION_FAILED, reason, max(doubt, instance.doubt))

    def expire(self) -> tuple[Instance, ...]:
        """Drop the self-registered instances that have been unhealthy for too long, and return them."""
        now, unhealthy = self._clock(), Health.UNHEALTHY
        down = [member for member in self._members.values() if member.status.health is unhealthy]
        expired = [member.instance.key for member in down if self._has_expired(member, now)]
        reason = f"unhealthy for {self._live.current.manager.instance_expiry_secs:g} s"
        removed = tuple(x for key in expired if (x := self.remove(key, reason)) is not None)
        self._removed_in_use = {key: instance for key, instance in self._removed_in_use.items() if _is_busy(instance)}
        return removed

    def _has_expired(self, member: _Member, now: float) -> bool:
        seconds = now - member.unhealthy_since
        return not member.instance.source.is_list and seconds >= self._live.current.manager.instance_expiry_secs

    def _admit(self, registration: Registration) -> _Member:
        # The object that running requests will give their counts back to, if there still is one.
        instance = self._removed_in_use.pop(registration.key, None)
        if instance is None:
            instance = Instance(registration, self.dialects.named(registration.dialect))
        instance.registration, instance.url = registration, registration.url
        instance.dialect = self.dialects.named(registration.dialect)
        instance.access = self.access.of(registration)
        instance.is_draining = instance.is_proven = instance.is_stuck = False
        instance.readiness = Readiness.READY
        instance.doubt = Doubt.NONE
        self._grouping.join(instance)
        member = _Member(instance, self._clock())
        self._members[registration.key] = member
        return member

    def _replace(self, member: _Member, registration: Registration) -> None:
        instance = member.instance
        before, instance.registration = instance.registration, registration
        if before == registration:  # as most heartbeats are
            return
        instance.dialect = self.dialects.named(registration.dialect or member.detected)
        if before.traits != registration.traits and (access := self.access.of(registration)) is not instance.access:
            instance.access = access
            self._notify(ChangeKind.ACCESS, member)
        if before.role != registration.role:
            self._grouping.place(instance)
            self._notify(ChangeKind.ROLE, member, f"was {before.role}")
        elif before.traits != registration.traits:
            self._grouping.refresh(instance)  # who can pair with whom may have changed: its dialect knows
        if before.models != registration.models:
            self._set_models(member, told_cards(registration.models))
        if before.max_requests != registration.max_requests:
            self._notify(ChangeKind.LIMIT, member, f"was {before.max_requests}")
        if before.is_paused != registration.is_paused:
            self._grouping.refresh(instance)
            self._notify(ChangeKind.PAUSED if registration.is_paused else ChangeKind.RESUMED, member)

    def _set_models(self, member: _Member, models: tuple[ModelCard, ...]) -> None:
        if self._grouping.serve(member.instance, models):
            self._notify(ChangeKind.MODELS, member)

    def _member_of(self, instance: Instance) -> _Member | None:
        """Find the member; None for an instance that was removed meanwhile: news of it come too late."""
        member = self._members.get(instance.key)
        return member if member is not None and member.instance is instance else None

    def _learn(self, member: _Member | None, event: Event, detail: str = "", doubt: Doubt | None = None) -> None:
        """``doubt``: what speaks against the instance, unless it is healthy now; None: what did before."""
        if member is None:
            return
        instance, before = member.instance, member.status.health
        member.status = advance(member.status, event, self.thresholds)
        after = member.status.health
        found = Doubt.NONE if after is Health.HEALTHY else instance.doubt if doubt is None else doubt
        if after is not before or found is not instance.doubt:
            instance.health, instance.doubt = after, found
            self._grouping.refresh(instance)
        if after is not before:
            self._moved(member, after, detail)
        elif event is Event.PROBE_FAILED and not (instance.is_proven or member.told_not_up) and instance.source.is_list:
            member.told_not_up = True
            self._notify(ChangeKind.NOT_UP, member, detail)
        if event is Event.PROBE_FAILED and after is Health.UNHEALTHY:
            self._judge_dead(member, detail)

    def _judge_dead(self, member: _Member, detail: str) -> None:
        """Tell once that an instance is dead: so many probes in a row were refused, or got no answer.

        One that delivers bytes meanwhile isn't taken here for its silence: those outweigh a probe that gets no answer.
        """
        doubt, failures = member.instance.doubt, member.status.failures - self.thresholds.failures + 1
        if not member.told_dead and failures >= CERTAIN_PROBES and (doubt is Doubt.GONE or doubt.is_timeout):
            member.told_dead = True
            self._notify(ChangeKind.DEAD, member, detail)

    def _moved(self, member: _Member, after: Health, detail: str) -> None:
        if after is Health.HEALTHY:
            kind = ChangeKind.UP if member.instance.is_proven else ChangeKind.FIRST_UP
            member.instance.is_proven = True
            member.told_dead = False
        elif after is Health.SUSPECT:
            kind = ChangeKind.SUSPECT
        else:
            kind = ChangeKind.DOWN
            member.unhealthy_since = self._clock()
        self._notify(kind, member, detail)

    def _notify(self, kind: ChangeKind, member: _Member, detail: str = "") -> None:
        change = Change(kind, member.instance, detail, member.index)
        for listener in tuple(self._listeners):
            try:
                listener(change)
            except Exception as error:  # noqa: BLE001  (the others hear of it, and the request that met this goes on)
                what = f"met '{kind.value}' of {member.instance.url} with {say(error)}"
                self._log.error(f"A bug in the router: a listener of the registry {what}")

    def __repr__(self) -> str:
        available = ", ".join(f"{role}: {len(self.available(role))}" for role in ROLES)
        return f"<Registry {len(self._members)} members, available {available}>"


def _is_busy(instance: Instance) -> bool:
    return bool(instance.own_running or instance.own_tokens)
