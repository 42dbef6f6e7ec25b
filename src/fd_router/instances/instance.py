"""One instance of the fleet: what it registered, its health, and its counts in this router."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Protocol

from fd_router.engines.dialect import Dialect
from fd_router.engines.fastdeploy.dialect import FastDeployDialect
from fd_router.engines.model_cards import ModelCard
from fd_router.http.instance_access import PLAIN, InstanceAccess
from fd_router.instances.doubt import Doubt
from fd_router.instances.group_key import GroupKey
from fd_router.instances.registration import Registration
from fd_router.instances.registration_keys import Role
from fd_router.instances.source import REGISTER_API, Source


class Health(Enum):
    """Whether an instance may be chosen: HEALTHY ones are, others where nobody is left (``instances.reserve``)."""

    __hash__ = object.__hash__  # an Enum's own looks for its name

    HEALTHY = "healthy"
    SUSPECT = "suspect"  # a connection to it failed while serving; a probe is under way
    UNHEALTHY = "unhealthy"  # probes failed, or none has succeeded yet


class Readiness(Enum):
    """What an instance's source says of it: whether it wants it to be given requests."""

    READY = "ready"
    UNREADY = "unready"  # chosen only where nobody else is left, if its own health is good
    TERMINATING = "terminating"  # what runs there goes on to its end


def _no_headroom(instance: Instance, is_saturated: bool, /) -> None:
    """Without a ``Headroom`` an instance has no limit to reach."""


def _no_cooling(instance: Instance, seconds: float, /) -> None:
    """Without ``Cooling`` an instance that has no room is asked all the same."""


class FailureObserver(Protocol):
    """Judges an instance by what becomes of its requests; see ``capacity.breaker``."""

    def answered(self, status: int) -> None:
        """Learn that an answer began."""

    def refused(self, status: int, client: str) -> None:
        """Learn that an answer with a status of 400 to 499 began, and to whom."""

    def failed(self, reason: str, *, begun: bool = False) -> None:
        """Learn that a request failed by the instance's own making; ``begun``: in the middle of its answer."""


class MemberGroup(Protocol):
    """A group that an instance is a member of; see ``instances.groups``."""

    @property
    def key(self) -> GroupKey:
        """Model and role."""

    @property
    def available(self) -> tuple[Instance, ...]:
        """The members that are given new requests."""

    @property
    def is_reserve(self) -> bool:
        """Whether they are the reserve."""

    @property
    def is_serving(self) -> bool:
        """Whether a member takes new requests, not only for want of better ones."""

    def on_saturation(self, instance: Instance) -> None:
        """Learn that a member has reached its limit, or came back below it."""


class RowObserver(Protocol):
    """Is told the counts of each row; see ``scheduling.load_table``."""

    def update(self, row: int, running: int, tokens: int) -> None:
        """Take in the counts of the instance at ``row``."""


class Instance:
    """An identity (``host_ip:port``) whose data heartbeats replace and whose counts outlive them.

    It satisfies ``scheduling.candidate.Candidate``. The counts change only through ``acquire``, ``release_tokens``,
    ``release``, ``repair`` and ``count_elsewhere``. They are the instance's, however many groups it is a member of.
    ``running`` and ``tokens`` are all that is known to be there, other routers' too, for that is what a policy, and a
    limit, are about; ``own_running`` and ``own_tokens`` are this router's, which it has to give back.
    """

    __slots__ = (
        "access", "answered_at", "breaker", "dialect", "doubt", "groups", "health", "host", "is_cooling", "is_draining",
        "is_ejected", "is_proven", "is_stuck", "key", "limit", "load_table", "models", "on_busy", "on_limit", "port",
        "readiness", "registration", "row", "running", "running_elsewhere", "source", "tokens", "tokens_elsewhere",
        "url",
    )  # fmt: skip

    def __init__(
        self, registration: Registration, dialect: Dialect | None = None, access: InstanceAccess = PLAIN
    ) -> None:
        """``dialect``: of its engine; None: FastDeploy's."""
        self.key = registration.key  # "10.0.0.1:8000", "[::1]:8000"
        self.url = registration.url  # "http://" + key
        self.access = access  # TLS and key towards it
        self.host = registration.host_ip
        self.port = registration.port
        self.registration = registration
        self.dialect = FastDeployDialect() if dialect is None else dialect
        self.models: tuple[ModelCard, ...] = ()  # those it serves, as far as it is known; set by the registry
        self.source: Source = REGISTER_API  # who named it, or the highest of those who did
        self.groups: tuple[MemberGroup, ...] = ()  # those it is a member of; set by the registry
        self.health = Health.UNHEALTHY
        self.doubt = Doubt.NONE  # why it isn't healthy
        self.is_proven = False  # it has been healthy since it is a member
        self.answered_at = 0.0  # when it last began to answer a request, in monotonic seconds
        self.readiness = Readiness.READY  # by its source's word
        self.is_draining = False  # by an admin's word: nothing new, until it is taken back
        self.is_ejected = False  # its circuit is open
        self.is_cooling = False  # it said that it has no room
        self.is_stuck = False  # its streams are silent while others' go on
        self.breaker: FailureObserver | None = None
        self.running = 0
        self.tokens = 0
        self.running_elsewhere = 0  # of these, other routers' requests
        self.tokens_elsewhere = 0
        self.limit = 0  # of concurrent requests, 0 = none; set by ``Headroom``
        self.on_limit: OnLimit = _no_headroom
        self.on_busy: OnBusy = _no_cooling
        self.load_table: RowObserver | None = None  # in a large fleet: kept up to date at ``row``
        self.row = 0

    @property
    def role(self) -> Role:
        """What it does for a request: ``mixed``, ``prefill`` or ``decode``."""
        return self.registration.role

    @property
    def labels(self) -> Mapping[str, str]:
        """What it tells of itself for policies."""
        return self.registration.labels

    @property
    def own_running(self) -> int:
        """The requests that this router has there."""
        return self.running - self.running_elsewhere

    @property
    def own_tokens(self) -> int:
        """The tokens of those of them whose prefill isn't done."""
        return self.tokens - self.tokens_elsewhere

    @property
    def is_saturated(self) -> bool:
        """Whether it has as many requests as it may have at once."""
        return 0 < self.limit <= self.running

    @property
    def takes_new(self) -> bool:
        """Whether it may be given a request: it is healthy, and nothing else speaks against it."""
        return self.health is Health.HEALTHY and not (
            self.registration.is_paused
            or self.is_draining
            or self.is_ejected
            or self.is_cooling
            or self.is_stuck
            or self.readiness is not Readiness.READY
        )

    @property
    def may_serve(self) -> bool:
        """Whether it may be given a request now, perhaps for want of better ones."""
        return self.takes_new or any(self in group.available for group in self.groups)

    def can_pair_with(self, decode: Instance) -> bool:
        """Tell whether it can be the prefill instance of a request whose decode instance is ``decode``."""
        dialect = self.dialect
        return dialect is decode.dialect and dialect.can_pair(self.registration, decode.registration)

    def acquire(self, tokens: int) -> None:
        """Count one more request with ``tokens`` prompt tokens."""
        self.running = running = self.running + 1
        self.tokens += tokens
        if self.load_table is not None:
            self.load_table.update(self.row, running, self.tokens)
        if running == self.limit:
            self.on_limit(self, True)

    def release_tokens(self, tokens: int) -> None:
        """The prefill of a request with ``tokens`` prompt tokens is done, or will never be."""
        self.tokens -= tokens
        if self.load_table is not None:
            self.load_table.update(self.row, self.running, self.tokens)

    def release(self, tokens: int = 0) -> None:
        """A request ended, however it did, with so many tokens that weren't released before."""
        running = self.running
        self.running = running - 1
        self.tokens -= tokens
        if self.load_table is not None:
            self.load_table.update(self.row, running - 1, self.tokens)
        if running == self.limit:
            self.on_limit(self, False)

    def repair(self, excess: int) -> None:
        """Put a count right that was found wrong: ``excess`` requests aren't there, nor are tokens without requests."""
        own = max(0, self.own_running - excess)
        self._set(self.running_elsewhere + own, self.tokens if own else self.tokens_elsewhere)

    def count_elsewhere(self, running: int, tokens: int) -> None:
        """Other routers have so many requests there now, with so many prompt tokens."""
        more, more_tokens = running - self.running_elsewhere, tokens - self.tokens_elsewhere
        self.running_elsewhere, self.tokens_elsewhere = running, tokens
        self._set(self.running + more, self.tokens + more_tokens)

    def _set(self, running: int, tokens: int) -> None:
        limit, before = self.limit, self.running
        self.running, self.tokens = running, tokens
        if self.load_table is not None:
            self.load_table.update(self.row, running, tokens)
        if limit and (limit <= before) is not (limit <= running):
            self.on_limit(self, limit <= running)

    def failed(self, reason: str, *, begun: bool = False) -> None:
        """A request failed by the instance's own making; ``begun``: in the middle of its answer.

        One that is in doubt already isn't judged by what was on its way there.
        """
        if self.breaker is not None and self.health is Health.HEALTHY:
            self.breaker.failed(reason, begun=begun)

    def __repr__(self) -> str:
        counts = f"running={self.running} tokens={self.tokens}"
        return f"<Instance {self.key} {self.registration.role} {self.health.value} {counts}>"


OnBusy = Callable[[Instance, float], None]
"""Called when the instance says that it has no room, with the seconds for which it says so; 0.0: it tells none."""

OnLimit = Callable[[Instance, bool], None]
"""Called when the running requests reach the limit (True), and when they come back below it (False)."""
