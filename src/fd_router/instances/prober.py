"""The prober: asks every instance, again and again, whether it is healthy."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import msgspec

from fd_router.config.live import LiveConfig
from fd_router.config.sections import ManagerConfig
from fd_router.errors import UpstreamError
from fd_router.http.pace import gather_few
from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.doubt import Doubt, doubt_of
from fd_router.instances.instance import Health, Instance
from fd_router.instances.probe_schedule import ProbeSchedule
from fd_router.instances.registration import Registration
from fd_router.instances.registry import Registry
from fd_router.instances.work_queue import WorkQueue
from fd_router.telemetry.contracts import Log

NOT_FOUND = 404

BEGUN_A_TURN = 16
"""Probes that begin in one turn of the loop: each opens a connection, and 500 at once would hold it for 0.2 s."""

BETWEEN_FIRST_SECS = 0.00005
"""From the first probe of one instance to that of the next, where a whole fleet begins to be watched."""

Get = Callable[[Registration, str, float], Awaitable[int]]
"""(whom to ask, path, timeout in seconds) → HTTP status of a GET. Raises UpstreamError."""


Learn = Callable[[Registration], Awaitable[None]]
"""Finds out what an instance serves. Never raises."""


class Outcome(msgspec.Struct, frozen=True):
    """What one probe found: ``detail`` is "status 200", or why there was none; ``seconds`` how long it took."""

    healthy: bool
    detail: str
    seconds: float
    is_inconclusive: bool = False  # the router couldn't ask
    is_unanswered: bool = False  # no status came
    doubt: Doubt = Doubt.NONE  # what it says of the instance
    status: int = 0

    @property
    def timed_out(self) -> bool:
        """Whether it says no more than that time passed."""
        return self.doubt.is_timeout


def _never(key: str, /) -> float:  # noqa: ARG001
    """Without connections of requests no instance delivers anything."""
    return 0.0


def _always(key: str, /) -> bool:  # noqa: ARG001
    """A router that is alone probes every instance."""
    return True


class HealthMonitor:
    """Probes each instance once an interval, each at its own moment, and at once when a connection to it failed.

    At most one probe of an instance is under way: who asks for another gets the result of that one. What a probe finds
    goes to the registry. Probes don't wait for each other, up to ``max_concurrent`` of them; at most half of those are
    of instances that aren't members, whose addresses anybody may send who can reach ``/register``.
    """

    def __init__(
        self,
        registry: Registry,
        get: Get,
        *,
        clock: Callable[[], float],
        rng: random.Random,
        live: LiveConfig,
        log: Log,
        learn: Learn | None = None,
        delivered_at: Callable[[str], float] = _never,
        max_concurrent: int = 512,
    ) -> None:
        """``learn`` is awaited before an instance that can serve gets requests.

        ``delivered_at``: when the instance with a key last sent bytes of an answer that is under way.
        """
        self._learn = learn
        self._registry = registry
        self._get = get
        self._clock = clock
        self._random = rng
        self._live = live
        self._log = log
        self._delivered_at = delivered_at
        self._is_mine: Callable[[str], bool] = _always
        self._listeners: list[Callable[[], None]] = []
        self._max_concurrent = max_concurrent
        self._slots = asyncio.Semaphore(max_concurrent)
        self._beginning = asyncio.Semaphore(BEGUN_A_TURN)
        self._most_unregistered = max(1, max_concurrent // 2)
        self._unregistered: set[str] = set()  # keys that are probed, and aren't members
        self._schedule: ProbeSchedule | None = None  # while running
        self._probes = WorkQueue(self._run_probe, most=max_concurrent, on_done=self._on_done)
        self._lacking: dict[str, str] = {}  # key → the path of its dialect that it doesn't have
        self._doubted: set[str] = set()  # keys whose connection failed while a probe was under way
        self._interval = live.current.manager.health_check_interval_secs
        registry.on_change(self._on_change)
        live.subscribe(ManagerConfig, self._on_options)

    async def run(self) -> None:
        """Watch the registry's members, and drop the expired ones, until cancelled; no probe outlives it."""
        self._schedule = ProbeSchedule(asyncio.get_running_loop(), self._on_due, self._interval)
        self._watch_all(self._schedule)
        try:
            while True:
                await self._live.sleep(lambda config: config.manager.health_check_interval_secs)
                self._registry.expire()
        finally:
            self._schedule.clear()
            self._schedule = None
            await self._probes.stop()

    def on_probed(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each probe, when the registry knows what it found."""
        self._listeners.append(listener)

    def share(self, is_mine: Callable[[str], bool]) -> None:
        """Probe healthy instances only as long as ``is_mine(key)``: another router probes the others, and tells.

        One that isn't healthy here is probed all the same: nobody else can tell whether it can be reached from here.
        """
        self._is_mine = is_mine

    def hope_secs(self) -> float:
        """Return how long it may take, in seconds, until a probe that is under way brings an instance back; 0: none."""
        for key in self._probes:
            instance = self._registry.get(key)
            if instance is not None and instance.health is not Health.HEALTHY:
                return self._live.current.manager.health_check_timeout_secs
        return 0.0

    async def probe(self, instance: Instance) -> Outcome:
        """Probe ``instance`` now, or join the probe that is under way."""
        return await self._join(instance.registration)

    async def probe_all(self) -> list[tuple[Instance, Outcome]]:
        """Probe all members now, concurrently. The results are ordered by URL."""
        instances = self._registry.all()
        outcomes = await gather_few(self.probe, instances, self._max_concurrent)
        return list(zip(instances, outcomes, strict=True))

    async def check(self, registration: Registration) -> Outcome:
        """Probe an instance that wants to register.

        One that isn't known to be healthy must succeed as often as the success threshold asks, in a row. One that is,
        and says what it has said before, isn't probed where another router sees to that.
        """
        known = self._registry.get(registration.key)
        if known is not None and known.registration == registration and self._is_seen_to(known):
            return Outcome(True, "another router probes it", 0.0)
        rounds = 1 if known is not None and known.health is Health.HEALTHY else self._registry.thresholds.successes
        is_new = known is None and registration.key not in self._unregistered
        if is_new and len(self._unregistered) >= self._most_unregistered:
            return Outcome(False, "too many that aren't known ask to register at the moment", 0.0)
        while True:
            joined = self._join(registration)
            if known is None:  # behind that, by which the probe before may end
                self._unregistered.add(registration.key)
            outcome = await joined
            rounds -= 1
            if rounds <= 0 or not outcome.healthy:
                return outcome

    def _on_change(self, change: Change) -> None:
        if self._schedule is None:
            return
        if change.kind is ChangeKind.ADDED:
            self._watch(self._schedule, change.instance)
        elif change.kind is ChangeKind.REMOVED:
            self._schedule.drop(change.instance.key)
            self._lacking.pop(change.instance.key, None)
        elif change.kind is ChangeKind.SUSPECT:
            self._doubt(change.instance)

    def _on_options(self, manager: ManagerConfig) -> None:
        """Another interval begins at once, not when the old one, perhaps an hour, is over."""
        if manager.health_check_interval_secs != self._interval:
            self._interval = manager.health_check_interval_secs
            if self._schedule is not None:
                self._schedule.interval = self._interval
                self._watch_all(self._schedule)

    def _watch_all(self, schedule: ProbeSchedule) -> None:
        schedule.clear()
        for number, instance in enumerate(self._registry.all()):
            self._watch(schedule, instance, number * BETWEEN_FIRST_SECS)

    def _watch(self, schedule: ProbeSchedule, instance: Instance, soon: float = 0.0) -> None:
        # One that isn't known to be healthy is probed ``soon``. The second probe comes at a random moment of the
        # interval, so that a fleet which registered or was started at one time isn't probed at one time for ever.
        phase = self._interval * self._random.random()
        first, second = (phase, self._interval) if instance.health is Health.HEALTHY else (soon, phase)
        schedule.put(instance.key, first, second)

    def _on_due(self, key: str) -> None:
        instance = self._registry.get(key)
        if instance is not None and (instance.health is not Health.HEALTHY or self._is_mine(key)):
            self._start(instance)

    def _is_seen_to(self, instance: Instance) -> bool:
        """Whether it is healthy, and for another router to probe, which tells when it finds a change."""
        key = instance.key
        return instance.health is Health.HEALTHY and key not in self._probes and not self._is_mine(key)

    def probe_soon(self, instance: Instance) -> None:
        """Probe ``instance`` as soon as possible, without waiting for what that finds."""
        if self._schedule is not None:
            self._start(instance)

    def _doubt(self, instance: Instance) -> None:
        """Probe a suspect now. The answer to a probe under way may be older than the failure, so its yes is void."""
        if self._probes.has_begun(instance.key):
            self._doubted.add(instance.key)
        self._start(instance)

    def _start(self, instance: Instance) -> None:
        self._probes.start(instance.key, instance.registration)

    def _join(self, registration: Registration) -> asyncio.Future[Outcome]:
        return asyncio.shield(self._probes.join(registration.key, registration))

    def _on_done(self, key: str) -> None:
        self._unregistered.discard(key)
        for listener in self._listeners:
            listener()

    async def _run_probe(self, registration: Registration) -> Outcome:
        key = registration.key
        has_learnt = self._learn is None
        while True:
            self._doubted.discard(key)
            begun, asked = self._clock(), self._registry.get(key)
            outcome, path = await self._ask_for_health(registration)
            if (successor := self._successor(asked, key)) is not None:
                registration = successor.registration
                continue
            outcome = self._weigh(key, outcome, begun)
            if outcome.healthy and self._learn is not None and not has_learnt and not self._is_serving(key):
                has_learnt = True
                with self._probes.away():  # others may be asked meanwhile
                    await self._learn(registration)
            if (not outcome.healthy or key not in self._doubted) and self._has_decided(registration, outcome, path):
                break
        self._doubted.discard(key)
        return outcome

    def _successor(self, asked: Instance | None, key: str) -> Instance | None:
        """Return the instance that has come to the address meanwhile: what was answered there is no word of it."""
        now = self._registry.get(key)
        return now if asked is not None and now is not asked else None

    def _is_serving(self, key: str) -> bool:
        instance = self._registry.get(key)
        return instance is not None and instance.health is Health.HEALTHY

    async def _ask_for_health(self, registration: Registration) -> tuple[Outcome, str]:
        """Ask at its dialect's own path, if it has that, else at the configured one. Returns the path too."""
        key, own_path = registration.key, self._registry.dialect_of(registration).health_path
        if own_path and self._lacking.get(key) != own_path:
            outcome = await self._ask(registration, own_path)
            if outcome.status != NOT_FOUND:
                return outcome, own_path
            self._lacking[key] = own_path  # an older version
        path = self._live.current.manager.health_check_endpoint
        return await self._ask(registration, path), path

    def _weigh(self, key: str, outcome: Outcome, begun: float) -> Outcome:
        """Let bytes of answers outweigh a probe that got none in time: so engines behave that are busy."""
        instance = self._registry.get(key)
        if instance is None or not outcome.timed_out or instance.doubt >= Doubt.SICK:
            return outcome
        if max(instance.answered_at, self._delivered_at(key)) < begun:
            return outcome
        detail = f"{outcome.detail}, but it delivers answers"
        self._log.info(f"Probe of {instance.url}: {detail}")
        return Outcome(True, detail, outcome.seconds)

    def _has_decided(self, registration: Registration, outcome: Outcome, path: str) -> bool:
        """Tell the registry what one try found. Returns whether that decides.

        The thresholds count tries of one check, made one after the other (FastDeploy): an instance that is sick is out
        within one interval, whatever they are.
        """
        instance = self._registry.get(registration.key)
        if outcome.is_unanswered and (instance is None or instance.health is not Health.UNHEALTHY):
            self._log.error(f"failed to send request to {registration.url}{path} with error: {outcome.detail}")
        if instance is None or outcome.is_inconclusive:
            return True
        if outcome.healthy:
            self._registry.probe_succeeded(instance)
            return instance.health is Health.HEALTHY
        self._registry.probe_failed(instance, outcome.detail, outcome.doubt)
        return instance.health is not Health.HEALTHY

    async def _ask(self, registration: Registration, path: str) -> Outcome:
        async with self._slots:
            async with self._beginning:
                await asyncio.sleep(0)
            timeout = self._live.current.manager.health_check_timeout_secs
            started, is_inconclusive, is_unanswered, status = self._clock(), False, True, 0
            healthy, doubt = False, Doubt.SICK
            try:
                async with asyncio.timeout(timeout):
                    status = await self._get(registration, path, timeout)
                healthy, detail, is_unanswered = status == 200, f"status {status}", False
            except TimeoutError:
                detail, doubt = f"no answer within {timeout:g} s", Doubt.LATE
            except UpstreamError as error:
                detail, is_inconclusive, doubt = error.detail, error.reason == "exhausted", doubt_of(error.reason)
            except Exception as error:  # noqa: BLE001  (whatever a probe meets, the answer is "not healthy")
                detail = f"{type(error).__name__}: {error}"
            doubt = Doubt.NONE if healthy else doubt
            seconds = max(0.0, self._clock() - started)
            return Outcome(healthy, detail, seconds, is_inconclusive, is_unanswered, doubt, status)

    def __repr__(self) -> str:
        state, watched = ("stopped", 0) if self._schedule is None else ("running", len(self._schedule))
        return f"<HealthMonitor {state}, watches {watched}, probes under way {len(self._probes)}>"
