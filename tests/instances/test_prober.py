from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from fd_router.engines.dialect import Dialect
from fd_router.engines.dialects import Dialects
from fd_router.engines.openai import OpenAiDialect
from fd_router.errors import UpstreamError
from fd_router.instances.instance import Health
from fd_router.instances.prober import BEGUN_A_TURN, HealthMonitor
from fd_router.instances.registration import Registration
from fd_router.instances.registry import Registry
from fd_router.instances.source import REGISTER_YAML
from tests.support.live import live_config
from tests.support.waiting import until

LONG = 1000.0
"""An interval that never ends in a test: only what is probed out of turn is probed."""


class Fleet:
    """Stands in for all instances: what each port answers, and who asked."""

    def __init__(self) -> None:
        self.answers: dict[int, int | Exception | asyncio.Event] = {}
        self.answers_to: dict[str, int] = {}  # by path
        self.asked: Counter[int] = Counter()
        self.under_way = 0
        self.most_under_way = 0
        self.calls: list[tuple[str, int, str, float]] = []

    async def get(self, registration: Registration, path: str, timeout: float) -> int:  # noqa: ASYNC109
        host, port = registration.host_ip, registration.port
        self.asked[port] += 1
        self.calls.append((host, port, path, timeout))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            answer = self.answers.get(port, self.answers_to.get(path, 200))
            if isinstance(answer, asyncio.Event):
                await answer.wait()
                answer = 200
            await asyncio.sleep(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            self.under_way -= 1


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def make_monitor(registry, fleet: Fleet, log) -> Callable[..., HealthMonitor]:
    def make_monitor(**more: Any) -> HealthMonitor:
        names = {"interval": "interval_secs", "timeout": "timeout_secs", "endpoint": "endpoint"}
        given = {"interval": LONG, "timeout": 10.0} | {name: more.pop(name) for name in names.keys() & more.keys()}
        live = live_config(manager={f"health_check_{names[name]}": value for name, value in given.items()})
        options = {"clock": time.monotonic, "rng": random.Random(1), "live": live, "log": log} | more
        return HealthMonitor(options.pop("registry", registry), fleet.get, **options)

    return make_monitor


@asynccontextmanager
async def running(monitor: HealthMonitor) -> AsyncIterator[None]:
    task = asyncio.create_task(monitor.run())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1  # the test's own: nothing outlives the monitor


async def test_kept_instances_are_probed_at_once(registry, fleet, make_monitor, describe) -> None:
    first = registry.register(describe(1), REGISTER_YAML, index=0)
    async with running(make_monitor(endpoint="/ready", timeout=3.0)):
        second = registry.register(describe(2, host_ip="::1"), REGISTER_YAML, index=1)
        await until(lambda: len(registry.group("mixed").available) == 2)
    assert registry.group("mixed").available == (first, second)
    assert sorted(fleet.calls, key=str) == [("10.0.0.1", 1, "/ready", 3.0), ("::1", 2, "/ready", 3.0)]


async def test_a_path_of_its_own_that_it_lacks_is_asked_for_once(registry, fleet, make_monitor, describe) -> None:
    instance = registry.register(describe(1, dialect="sglang"), REGISTER_YAML, index=0)
    fleet.answers_to = {"/ready": 404}
    monitor = make_monitor(endpoint="/health")
    for _ in range(2):
        assert (await monitor.probe(instance)).healthy
    assert [path for _, _, path, _ in fleet.calls] == ["/ready", "/health", "/health"]
    registry.remove(instance.key)


async def test_what_one_answers_is_no_word_of_the_next_at_its_address(registry, fleet, make_monitor, describe) -> None:
    instance = registry.register(describe(1), REGISTER_YAML, index=0)
    answer = fleet.answers[1] = asyncio.Event()
    async with running(make_monitor()):
        await until(lambda: fleet.asked[1] == 1)
        registry.remove(instance.key)
        successor = registry.register(describe(1), REGISTER_YAML, index=0)
        fleet.answers[1] = 503
        answer.set()
        await until(lambda: fleet.asked[1] == 2 and not fleet.under_way)
        assert successor.health is Health.UNHEALTHY
        assert instance.health is Health.UNHEALTHY


async def test_one_that_has_it_is_asked_for_nothing_else(registry, fleet, make_monitor, describe) -> None:
    instance = registry.register(describe(1, dialect="sglang"), REGISTER_YAML, index=0)
    fleet.answers_to = {"/ready": 503}
    assert not (await make_monitor(endpoint="/health").probe(instance)).healthy
    assert [path for _, _, path, _ in fleet.calls] == ["/ready"]


async def test_a_dialect_may_have_a_path_of_its_own(fleet, make_monitor, describe, log) -> None:
    class Ready(OpenAiDialect):
        name = "ready"
        health_path = "/ready"

    class Table(Dialects):
        def named(self, name: str) -> Dialect:
            return Ready() if name == "ready" else super().named(name)

    registry = Registry(clock=lambda: 0.0, log=log, live=live_config(), dialects=Table())
    monitor = make_monitor(registry=registry, endpoint="/usual")
    assert (await monitor.check(describe(1, dialect="ready"))).healthy
    assert (await monitor.check(describe(2))).healthy
    registry.register(describe(1, dialect="ready"))
    await monitor.probe_all()
    assert [path for _, _, path, _ in fleet.calls] == ["/ready", "/usual", "/ready"]


async def test_one_that_just_registered_is_not_probed_at_once(registry, fleet, make_monitor, describe) -> None:
    async with running(make_monitor()):
        registry.register(describe(1))
        await asyncio.sleep(0.01)
    assert fleet.asked[1] == 0


async def test_every_instance_is_probed_again_and_again(registry, fleet, make_monitor, describe) -> None:
    for port in range(1, 6):
        registry.register(describe(port))
    async with running(make_monitor(interval=0.01)):
        await until(lambda: len(fleet.asked) == 5 and min(fleet.asked.values()) >= 3)


async def test_a_dead_instance_falls_and_a_living_one_rises(registry, fleet, make_monitor, describe) -> None:
    instance = registry.register(describe(1))
    fleet.answers[1] = UpstreamError("refused", "connection refused", instance=instance.url)
    async with running(make_monitor(interval=0.01)):
        await until(lambda: instance.health is Health.UNHEALTHY)
        fleet.answers[1] = 200
        await until(lambda: instance.health is Health.HEALTHY)


@pytest.mark.parametrize(("first", "health"), [(500, Health.UNHEALTHY), (200, Health.HEALTHY)])
async def test_the_thresholds_count_tries_within_one_check(make_registry, fleet, make_monitor, describe, first, health):
    registry = make_registry(failures=3, successes=3)
    instance = registry.register(describe(1))
    if health is Health.HEALTHY:  # it is to rise
        for _ in range(3):
            registry.probe_failed(instance, "x")
        assert instance.health is Health.UNHEALTHY
    fleet.answers[1] = first
    await make_monitor(registry=registry).probe(instance)
    assert (instance.health, fleet.asked[1]) == (health, 3)


async def test_a_hung_probe_delays_no_other(registry, fleet, make_monitor, describe) -> None:
    fleet.answers[1] = asyncio.Event()
    hung, other = registry.register(describe(1)), registry.register(describe(2))
    async with running(make_monitor(interval=0.01)):
        await until(lambda: fleet.asked[2] >= 5)
        assert fleet.asked[1] == 1  # the next one is not begun before the first has ended
    assert (hung.health, other.health) == (Health.HEALTHY, Health.HEALTHY)


async def test_a_probe_that_takes_too_long_has_failed(registry, fleet, make_monitor, describe) -> None:
    fleet.answers[1] = asyncio.Event()
    instance = registry.register(describe(1))
    monitor = make_monitor(timeout=0.01)
    outcome = await monitor.probe(instance)
    assert (outcome.healthy, outcome.detail) == (False, "no answer within 0.01 s")
    assert outcome.seconds > 0
    assert instance.health is Health.UNHEALTHY


@pytest.mark.parametrize(
    ("answer", "healthy", "detail"),
    [
        (200, True, "status 200"),
        (204, False, "status 204"),
        (503, False, "status 503"),
        (UpstreamError("refused", "connection refused", instance="http://x"), False, "connection refused"),
        (ValueError("odd"), False, "ValueError: odd"),
        (OSError(113, "No route to host"), False, "OSError: [Errno 113] No route to host"),
    ],
)
async def test_what_a_probe_finds(registry, fleet, make_monitor, describe, answer, healthy, detail) -> None:
    fleet.answers[1] = answer
    instance = registry.register(describe(1))
    outcome = await make_monitor().probe(instance)
    assert (outcome.healthy, outcome.detail) == (healthy, detail)
    assert instance.health is (Health.HEALTHY if healthy else Health.UNHEALTHY)


async def test_a_suspect_is_probed_at_once(registry, fleet, make_monitor, describe) -> None:
    well, dead = registry.register(describe(1)), registry.register(describe(2))
    fleet.answers[2] = OSError("refused")
    async with running(make_monitor()):
        for instance in (well, dead):
            registry.connection_failed(instance, "refused")
        assert registry.group("mixed").available == ()
        await until(lambda: Health.SUSPECT not in (well.health, dead.health))
    assert (well.health, dead.health) == (Health.HEALTHY, Health.UNHEALTHY)
    assert fleet.asked == {1: 1, 2: 1}


async def test_an_answer_older_than_the_failed_connection_clears_no_suspect(
    registry, fleet, make_monitor, describe
) -> None:
    instance = registry.register(describe(1))
    answer = fleet.answers[1] = asyncio.Event()
    monitor = make_monitor()
    async with running(monitor):
        probing = asyncio.create_task(monitor.probe(instance))
        await until(lambda: fleet.asked[1] == 1)
        registry.connection_failed(instance, "reset")
        fleet.answers[1] = OSError("refused")
        answer.set()  # the old probe is answered: yes
        outcome = await probing
    assert not outcome.healthy
    assert instance.health is Health.UNHEALTHY
    assert fleet.asked[1] == 2


async def test_probes_of_one_instance_at_once_are_one(registry, fleet, make_monitor, describe) -> None:
    registry.register(describe(1))
    answer = fleet.answers[1] = asyncio.Event()
    monitor = make_monitor()
    waiting = [asyncio.create_task(monitor.check(describe(1))) for _ in range(5)]
    waiting.append(asyncio.create_task(monitor.probe_all()))
    await until(lambda: fleet.asked[1] == 1)
    waiting[0].cancel()  # one that gives up takes the probe from nobody
    await asyncio.sleep(0)
    answer.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(outcome.healthy for outcome in results[1:5])
    assert results[5][0][1].healthy
    assert fleet.asked[1] == 1


async def test_probe_all_tells_of_each(registry, fleet, make_monitor, describe) -> None:
    well, dead = registry.register(describe(1)), registry.register(describe(2))
    fleet.answers[2] = 500
    results = await make_monitor().probe_all()
    assert [(instance, outcome.healthy, outcome.detail) for instance, outcome in results] == [
        (well, True, "status 200"),
        (dead, False, "status 500"),
    ]


async def test_no_more_probes_at_once_than_allowed(registry, fleet, make_monitor, describe) -> None:
    for port in range(1, 101):
        registry.register(describe(port), REGISTER_YAML)
    results = await make_monitor(max_concurrent=7).probe_all()
    assert len(results) == 100
    assert fleet.most_under_way == 7


async def test_a_whole_fleet_begins_its_probes_a_few_a_turn(registry, fleet, make_monitor, describe) -> None:
    for port in range(1, 101):
        registry.register(describe(port), REGISTER_YAML)
        fleet.answers[port] = asyncio.Event()  # so that none ends, and lets another one begin
    monitor, begun = make_monitor(max_concurrent=100), [0]
    asking = asyncio.create_task(monitor.probe_all())
    while begun[-1] < 100:
        await asyncio.sleep(0)
        begun.append(sum(fleet.asked.values()))
    assert max(after - before for before, after in pairwise(begun)) <= BEGUN_A_TURN
    asking.cancel()
    for answer in fleet.answers.values():
        answer.set()
    await asyncio.gather(asking, return_exceptions=True)


async def test_strangers_that_do_not_answer_keep_no_member_from_being_probed(
    registry, fleet, make_monitor, describe
) -> None:
    member, late = registry.register(describe(1), REGISTER_YAML), asyncio.Event()
    monitor = make_monitor(max_concurrent=4)
    for port in range(10, 20):
        fleet.answers[port] = late
    checks = [asyncio.create_task(monitor.check(describe(port))) for port in range(10, 20)]
    again = asyncio.create_task(monitor.check(describe(10)))  # joins the probe that is under way
    assert (await monitor.probe(member)).healthy
    refused = [check.result() for check in checks if check.done()]
    assert [outcome.detail for outcome in refused] == ["too many that aren't known ask to register at the moment"] * 8
    assert fleet.under_way == 2
    late.set()
    assert [outcome.healthy for outcome in await asyncio.gather(*checks, again)] == [True] * 2 + [False] * 8 + [True]
    assert (await monitor.check(describe(19))).healthy


async def test_a_stranger_that_asks_again_as_its_probe_ends_still_counts(fleet, make_monitor, describe) -> None:
    late, key = asyncio.Event(), describe(10).key
    fleet.answers[10] = late
    monitor = make_monitor(max_concurrent=2)  # of which one may be a stranger's
    first = asyncio.create_task(monitor.check(describe(10)))
    await until(lambda: fleet.asked[10] == 1)
    fleet.answers[10] = again = asyncio.Event()
    late.set()
    while monitor._probes.has_begun(key):  # noqa: ASYNC110  (nobody is told of that)
        await asyncio.sleep(0)
    checking = monitor.check(describe(10))
    checking.send(None)  # before anything else has a turn
    assert (await first).healthy
    assert not (await monitor.check(describe(11))).healthy
    again.set()
    checking.close()
    await until(lambda: len(monitor._probes) == 0)


@pytest.mark.parametrize(("successes", "asked"), [(1, 1), (3, 3)])
async def test_a_newcomer_must_succeed_as_often_as_the_threshold_says(
    make_registry, fleet, make_monitor, describe, successes: int, asked: int
) -> None:
    registry = make_registry(successes=successes)
    monitor = make_monitor(registry=registry)
    assert (await monitor.check(describe(1))).healthy
    assert fleet.asked[1] == asked
    registry.register(describe(1))
    assert (await monitor.check(describe(1))).healthy
    assert fleet.asked[1] == asked + 1  # a heartbeat of one known to be healthy: once


async def test_a_heartbeat_of_one_that_another_router_probes_is_no_reason_to_probe_it(
    registry, fleet, make_monitor, describe
) -> None:
    monitor, mine = make_monitor(), set()
    monitor.share(lambda key: key in mine)
    instance = registry.register(describe(1))
    assert (await monitor.check(describe(1))).healthy
    assert fleet.asked[1] == 0
    await monitor.check(describe(1, version="2"))  # it is another one now
    assert fleet.asked[1] == 1
    mine.add(instance.key)
    await monitor.check(describe(1))
    assert fleet.asked[1] == 2
    mine.clear()
    registry.connection_failed(instance, "refused")
    await monitor.check(describe(1))
    assert fleet.asked[1] == 3


async def test_a_newcomer_that_fails_is_not_asked_twice(make_registry, fleet, make_monitor, describe) -> None:
    fleet.answers[1] = 503
    registry = make_registry(successes=3)
    outcome = await make_monitor(registry=registry).check(describe(1))
    assert (outcome.healthy, fleet.asked[1], registry.all()) == (False, 1, ())


async def test_an_expired_instance_is_dropped_and_probed_no_more(
    make_registry, clock, fleet, make_monitor, describe
) -> None:
    registry = make_registry(expiry_secs=60)
    instance = registry.register(describe(1))
    fleet.answers[1] = 503
    async with running(make_monitor(registry=registry, interval=0.01)):
        await until(lambda: instance.health is Health.UNHEALTHY)
        clock.now += 60
        await until(lambda: registry.all() == ())
        await asyncio.sleep(0.02)
        asked = fleet.asked[1]
        await asyncio.sleep(0.05)
        assert fleet.asked[1] == asked


async def test_an_instance_removed_during_its_probe(registry, fleet, make_monitor, describe) -> None:
    instance = registry.register(describe(1))
    answer = fleet.answers[1] = asyncio.Event()
    monitor = make_monitor()
    probing = asyncio.create_task(monitor.probe(instance))
    await until(lambda: fleet.asked[1] == 1)
    registry.remove(instance.key)
    answer.set()
    assert (await probing).healthy
    assert instance.health is Health.UNHEALTHY


async def test_a_monitor_that_is_not_running_starts_nothing(registry, fleet, make_monitor, describe) -> None:
    make_monitor()
    registry.connection_failed(registry.register(describe(1)), "refused")
    await asyncio.sleep(0.01)
    assert fleet.asked == {}


async def test_cancelling_ends_probes_under_way(registry, fleet, make_monitor, describe) -> None:
    fleet.answers[1] = asyncio.Event()
    registry.register(describe(1), REGISTER_YAML)
    monitor = make_monitor()
    async with running(monitor):
        await until(lambda: fleet.under_way == 1)
        assert repr(monitor) == "<HealthMonitor running, watches 1, probes under way 1>"
    await asyncio.sleep(0)
    assert fleet.under_way == 0
    assert repr(monitor) == "<HealthMonitor stopped, watches 0, probes under way 0>"


async def test_moments_are_spread_over_the_interval(registry, fleet, make_monitor, describe) -> None:
    """A fleet that registered at one time isn't probed at one time."""
    for port in range(1, 201):
        registry.register(describe(port))
    loop = asyncio.get_running_loop()
    monitor = make_monitor(interval=100.0)
    async with running(monitor):
        assert monitor._schedule is not None
        dues = sorted(due - loop.time() for due in monitor._schedule.dues().values())
    assert len(dues) == 200
    for quarter in range(4):
        assert sum(25 * quarter <= due < 25 * (quarter + 1) for due in dues) > 25
