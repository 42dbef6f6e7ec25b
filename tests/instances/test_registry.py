from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Health, Instance
from fd_router.instances.registration import Registration
from fd_router.instances.registry import Registry
from fd_router.instances.source import REGISTER_YAML

Describe = Callable[..., Registration]


def urls(instances: tuple[Instance, ...]) -> list[str]:
    return [instance.url for instance in instances]


def test_a_registered_instance_may_be_chosen(registry, describe: Describe) -> None:
    instance = registry.register(describe(8000))
    assert instance.health is Health.HEALTHY
    assert registry.group("mixed").available == (instance,)
    assert registry.group("prefill").available == ()
    assert registry.get("10.0.0.1:8000") is instance
    assert registry.get("10.0.0.1:8001") is None


def test_available_is_sorted_by_url_and_cached(registry, describe: Describe) -> None:
    for port in (9, 30, 100):
        registry.register(describe(port))
    first = registry.group("mixed").available
    assert urls(first) == sorted(urls(first))
    registry.register(describe(30))  # a heartbeat
    registry.probe_succeeded(first[0])
    assert registry.group("mixed").available is first


def test_the_garbage_collector_has_two_objects_of_each_member_to_look_at(registry, describe: Describe) -> None:
    def register(ports: range) -> int:
        for port in ports:
            registry.register(describe(port), REGISTER_YAML)
            registry.probe_failed(registry.get(f"10.0.0.1:{port}"), "x")
        gc.collect()
        return len(gc.get_objects())

    before = register(range(1, 101))
    assert register(range(101, 1101)) - before < 2100


def test_a_heartbeat_replaces_data_and_leaves_object_and_counts(registry, describe: Describe) -> None:
    instance = registry.register(describe(8000))
    instance.acquire(100)
    assert registry.register(describe(8000, metrics_port=9000)) is instance
    assert instance.registration.metrics_port == 9000
    assert (instance.running, instance.tokens) == (1, 100)


def test_an_instance_that_registers_in_another_role_moves(registry, describe: Describe) -> None:
    instance = registry.register(describe(8000, "prefill"))
    assert registry.group("prefill").available == (instance,)
    assert registry.register(describe(8000, "decode")) is instance
    assert registry.group("prefill").available == ()
    assert registry.group("decode").available == (instance,)
    assert registry.counts() == {"mixed": 0, "prefill": 0, "decode": 1}


def test_a_paused_instance_is_registered_but_not_chosen(registry, describe: Describe) -> None:
    instance = registry.register(describe(8000))
    registry.register(describe(8000, is_paused=True))
    assert registry.group("mixed").available == ()
    assert registry.in_service("mixed") == (instance,)
    registry.register(describe(8000, is_paused=False))
    assert registry.group("mixed").available == (instance,)


def test_a_failed_connection_ends_the_choice_at_once(registry, describe: Describe) -> None:
    instance, other = registry.register(describe(8000)), registry.register(describe(8001))
    registry.connection_failed(instance, "refused")
    assert instance.health is Health.SUSPECT
    assert registry.group("mixed").available == (other,)
    assert registry.in_service("mixed") == (instance, other)  # it isn't given up yet
    registry.probe_succeeded(instance)
    assert registry.group("mixed").available == (instance, other)


def test_an_unhealthy_instance_is_out_of_service_but_still_a_member(registry, describe: Describe) -> None:
    instance = registry.register(describe(8000))
    registry.probe_failed(instance, "status 503")
    assert registry.group("mixed").available == registry.in_service("mixed") == ()
    assert registry.counts()["mixed"] == 0
    assert registry.all() == (instance,)
    registry.probe_succeeded(instance)
    assert registry.group("mixed").available == (instance,)


def test_thresholds_are_used(make_registry, describe: Describe) -> None:
    registry = make_registry(failures=2, successes=2)
    instance = registry.register(describe(8000))
    registry.probe_failed(instance, "x")
    assert instance.health is Health.HEALTHY
    registry.probe_failed(instance, "x")
    assert instance.health is Health.UNHEALTHY
    registry.probe_succeeded(instance)
    assert instance.health is Health.UNHEALTHY
    registry.probe_succeeded(instance)
    assert instance.health is Health.HEALTHY


def test_a_kept_instance_waits_for_its_first_probe(registry, describe: Describe) -> None:
    instance = registry.register(describe(8000), REGISTER_YAML, index=0)
    assert instance.health is Health.UNHEALTHY
    assert registry.group("mixed").available == ()
    registry.probe_succeeded(instance)
    assert registry.group("mixed").available == (instance,)


def test_keeping_a_healthy_member_leaves_it_healthy(registry, describe: Describe) -> None:
    instance = registry.register(describe(8000))
    registry.register(describe(8000), REGISTER_YAML, index=3)
    assert instance.health is Health.HEALTHY


def test_what_stays_unhealthy_is_dropped_unless_kept(registry, describe: Describe, clock) -> None:
    own = registry.register(describe(8000))
    kept = registry.register(describe(8001), REGISTER_YAML, index=0)
    both = registry.register(describe(8002), REGISTER_YAML, index=1)
    registry.register(describe(8002))  # it registers itself as well
    well = registry.register(describe(8003))
    for instance in (own, both):
        registry.probe_failed(instance, "x")
    clock.now += 299.9
    assert registry.expire() == ()
    clock.now += 0.1
    assert registry.expire() == (own,)
    assert registry.all() == (kept, both, well)


def test_the_time_of_expiry_counts_from_the_last_fall(registry, describe: Describe, clock) -> None:
    instance = registry.register(describe(8000))
    registry.probe_failed(instance, "x")
    clock.now += 200
    registry.probe_succeeded(instance)
    registry.probe_failed(instance, "x")
    clock.now += 200
    assert registry.expire() == ()


def test_a_busy_instance_comes_back_as_the_same_object(registry, describe: Describe, clock) -> None:
    instance = registry.register(describe(8000))
    instance.acquire(50)
    assert registry.remove("10.0.0.1:8000") is instance
    assert instance.health is Health.UNHEALTHY
    registry.expire()  # sweeps those that are idle
    back = registry.register(describe(8000, metrics_port=9000))
    assert back is instance
    assert (back.running, back.tokens, back.registration.metrics_port) == (1, 50, 9000)
    assert registry.group("mixed").available == (instance,)
    instance.release_tokens(50)
    instance.release()
    assert (back.running, back.tokens) == (0, 0)


def test_an_idle_instance_that_was_removed_is_forgotten(registry, describe: Describe) -> None:
    busy = registry.register(describe(8000))
    busy.acquire(1)
    registry.remove(busy.key)
    busy.release_tokens(1)
    busy.release()
    registry.expire()
    assert registry.register(describe(8000)) is not busy


def test_news_of_a_removed_instance_change_nothing(registry, describe: Describe, changes: list[Change]) -> None:
    old = registry.register(describe(8000))
    registry.remove(old.key)
    new = registry.register(describe(8000))
    assert new is not old
    changes.clear()
    registry.probe_failed(old, "x")
    registry.probe_succeeded(old)
    registry.connection_failed(old, "reset")
    assert changes == []
    assert new.health is Health.HEALTHY
    assert registry.remove("10.9.9.9:1") is None


def test_a_listener_that_fails_keeps_it_from_nobody(registry, describe: Describe, log) -> None:
    heard: list[ChangeKind] = []

    def fail(change: Change) -> None:
        raise KeyError(change.kind.name)

    registry.on_change(fail)
    registry.on_change(lambda change: heard.append(change.kind))
    instance = registry.register(describe(8000))
    registry.connection_failed(instance, "refused")  # what a request calls that met a dead instance
    assert heard == [ChangeKind.FIRST_UP, ChangeKind.ADDED, ChangeKind.SUSPECT]
    bugs = [line for line in log.lines if "A bug in the router" in str(line)]
    assert len(bugs) == 3
    assert "met 'first up' of http://10.0.0.1:8000 with KeyError: 'FIRST_UP' (test_registry.py:" in str(bugs[0])


def test_listeners_are_told_after_the_change(registry, describe: Describe) -> None:
    seen = []
    registry.on_change(
        lambda change: seen.append((change.kind, len(registry.group("mixed").available), len(registry.all())))
    )
    instance = registry.register(describe(8000))
    registry.connection_failed(instance, "refused")
    registry.probe_failed(instance, "refused")
    registry.probe_succeeded(instance)
    registry.remove(instance.key)
    assert seen == [
        (ChangeKind.FIRST_UP, 1, 1),
        (ChangeKind.ADDED, 1, 1),
        (ChangeKind.SUSPECT, 0, 1),
        (ChangeKind.DOWN, 0, 1),
        (ChangeKind.UP, 1, 1),
        (ChangeKind.REMOVED, 0, 0),
    ]


def test_on_removed_is_told_of_removal_only(registry, describe: Describe) -> None:
    removed: list[Instance] = []
    registry.on_removed(removed.append)
    instance = registry.register(describe(8000))
    registry.probe_failed(instance, "x")
    assert removed == []
    registry.remove(instance.key)
    assert removed == [instance]


def test_log_lines_of_a_self_registered_instance(registry, describe: Describe, clock, log) -> None:
    url = "http://10.0.0.1:8000"
    instance = registry.register(describe(8000))
    registry.register(describe(8000))  # a heartbeat is no news
    registry.connection_failed(instance, "connection refused")
    registry.connection_failed(instance, "connection refused")
    registry.probe_failed(instance, "connection refused")
    registry.probe_failed(instance, "connection refused")
    registry.probe_succeeded(instance)
    registry.register(describe(8000, is_paused=True))
    registry.register(describe(8000))
    registry.register(describe(8000, "prefill"))
    registry.probe_failed(instance, "status 503")
    clock.now += 1000
    registry.expire()
    assert log.lines == [
        ("info", f"Successfully registered mixed instance: {url}"),
        ("warn", f"Server {url} is not healthy (connection refused)"),
        ("error", f"Removed unhealthy mixed instance: {url} (connection refused)"),
        ("info", f"Server {url} is healthy"),
        ("info", f"Server {url} is paused: no new requests"),
        ("info", f"Server {url} is no longer paused"),
        ("info", f"Role of {url} is now prefill (was mixed)"),
        ("error", f"Removed unhealthy prefill instance: {url} (status 503)"),
        ("info", f"Forgot prefill instance: {url} (unhealthy for 300 s)"),
    ]


def test_log_lines_of_a_kept_instance(registry, describe: Describe, log) -> None:
    url = "http://10.0.0.1:8000"
    instance = registry.register(describe(8000), REGISTER_YAML, index=4)
    registry.probe_failed(instance, "refused")
    registry.probe_failed(instance, "refused")
    registry.probe_succeeded(instance)
    registry.probe_failed(instance, "refused")
    registry.probe_succeeded(instance)
    assert log.lines == [
        (
            "error",
            f"Failed to register instance from index 4: {url} is not healthy (refused); kept and probed until it is",
        ),
        ("info", f"Successfully registered instance from index 4: {url}"),
        ("error", f"Removed unhealthy mixed instance: {url} (refused)"),
        ("info", f"Server {url} is healthy"),
    ]


@pytest.mark.parametrize(("host", "url"), [("10.0.0.7", "http://10.0.0.7:1"), ("::7", "http://[::7]:1")])
def test_repr(registry: Registry, describe: Describe, host: str, url: str) -> None:
    instance = registry.register(describe(1, host_ip=host))
    instance.acquire(3)
    assert instance.url == url
    assert repr(registry) == "<Registry 1 members, available mixed: 1, prefill: 0, decode: 0>"
    assert repr(instance) == f"<Instance {url[7:]} mixed healthy running=1 tokens=3>"
