"""The topic of instances that registered themselves: what a newcomer is told of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from fd_router.instances.doubt import Doubt
from fd_router.instances.instance import Health, Instance
from fd_router.instances.registration import Registration, parse_registration
from fd_router.instances.registry import Registry
from fd_router.instances.source import PEERS, REGISTER_API
from fd_router.instances.sources.members import FleetSources
from fd_router.state.topics.members import AGAIN_SECONDS, IN_A_PART, REFUSED_SECONDS, SharedMembers
from fd_router.state.topics.verdicts import EVERY, SharedDowns, SharedVerdicts
from tests.support.fake_log import FakeLog
from tests.support.live import live_config


def anything(*_: Any) -> None:
    pass


def admit(_: Registration) -> str:
    return ""


class FakeDeadlines:
    def __init__(self) -> None:
        self.set: dict[str, float] = {}

    def drain_by(self, instance: Instance, seconds: float) -> None:
        self.set[instance.key] = seconds

    def seconds_left(self, key: str) -> float | None:
        return self.set.get(key)


class Router:
    def __init__(self, admit: Callable[[Registration], str] = admit) -> None:
        self.now = 0.0
        self.log = log = FakeLog()
        self.registry = Registry(clock=lambda: 0.0, log=log, live=live_config())
        fleet = FleetSources(self.registry, anything, log=log)
        self.topic = SharedMembers(
            self.registry, fleet.members_of(REGISTER_API), fleet.members_of(PEERS),
            admit=admit, probe=anything, flush=anything, clock=lambda: self.now, log=log,
        )  # fmt: skip
        self.topic.deadlines = self.deadlines = FakeDeadlines()

    @property
    def keys(self) -> list[str]:
        return [instance.key for instance in self.registry.all()]


def test_what_is_removed_while_a_newcomer_is_told_does_not_come_back_there() -> None:
    own, newcomer = Router(), Router()
    for port in range(10_000, 10_000 + 2 * IN_A_PART):
        registration = parse_registration({"role": "mixed", "host_ip": "10.0.0.1", "port": port})
        own.registry.register(registration, REGISTER_API)
    for number, part in enumerate(own.topic.snapshot()):
        newcomer.topic.take("own", msgspec.Raw(part))
        if not number:
            gone = own.keys[-1]
            own.registry.remove(gone, "removed by an admin")
            own.topic.removed(gone, 0.0)
            news = own.topic.gather(whole=False)
            assert news is not None
            newcomer.topic.take("own", msgspec.Raw(news))
    assert newcomer.keys == own.keys
    assert len(own.keys) == 2 * IN_A_PART - 1


def test_what_could_not_be_reached_until_it_was_dropped_is_probed_before_it_is_chosen_again() -> None:
    own, other = Router(), Router()
    registration = parse_registration({"role": "mixed", "host_ip": "10.0.0.1", "port": 8000})
    for router in (own, other):
        router.registry.register(registration, REGISTER_API)
    instance = own.registry.get(registration.key)
    assert instance is not None
    own.registry.probe_failed(instance, "timed out", Doubt.DEAF)
    own.registry.remove(registration.key, "unhealthy for 300 s")
    [told] = other.topic.snapshot()
    own.topic.take("other", msgspec.Raw(told))
    again = own.registry.get(registration.key)
    assert again is not None
    assert again.health is Health.UNHEALTHY
    own.registry.probe_succeeded(again)
    own.registry.remove(registration.key, "removed by an admin")
    own.topic.take("other", msgspec.Raw(told))
    [back] = own.registry.all()
    assert back.health is Health.HEALTHY, "it could be reached"


def test_what_can_not_be_a_member_here_is_told_once_and_named_to_who_shares_the_probes() -> None:
    why = "it is in none of access.register-networks"
    own, other = Router(lambda _: why), Router()
    registration = parse_registration({"role": "mixed", "host_ip": "10.0.0.1", "port": 8000})
    other.registry.register(registration, REGISTER_API)
    for _ in range(5):
        own.now += AGAIN_SECONDS
        [told] = other.topic.snapshot()
        own.topic.take("other", msgspec.Raw(told))
    assert len([line for line in own.log.lines if why in str(line)]) == 1
    assert own.topic.refused() == [registration.key]
    verdicts = SharedVerdicts(other.registry, anything, anything)
    downs = SharedDowns(own.registry, SharedVerdicts(own.registry, anything, anything), own.topic.refused)
    payloads = [payload for _ in range(EVERY) if (payload := downs.gather(whole=True)) is not None]
    SharedDowns(other.registry, verdicts).take("own", msgspec.Raw(payloads[0]))
    assert verdicts.is_down_elsewhere(registration.key), "who has it for its own doesn't probe it"
    own.now += REFUSED_SECONDS
    assert own.topic.refused() == []


def test_what_can_not_be_read_is_told_once() -> None:
    own = Router()
    broken = msgspec.msgpack.encode({"registered": [[b'{"role": "mixed", "port": 1}', True, False]]})
    for _ in range(3):
        own.topic.take("other", msgspec.Raw(broken))
    assert len([line for line in own.log.lines if "can't be used here" in str(line)]) == 1
    assert own.topic.refused() == []


def test_the_deadline_of_a_drain_holds_everywhere() -> None:
    """Else the streams at other workers would stay to their end."""
    own, other, newcomer = Router(), Router(), Router()
    registration = parse_registration({"role": "mixed", "host_ip": "10.0.0.1", "port": 8000})
    for router in (own, other, newcomer):
        router.registry.register(registration, REGISTER_API)
    own.registry.set_draining(registration.key, True)
    own.deadlines.set[registration.key] = 30.0
    own.topic.drained(registration.key, 30.0)
    own.topic.drained("10.0.0.9:8000", 30.0)  # nobody knows that one
    news = own.topic.gather(whole=False)
    assert news is not None
    other.topic.take("own", msgspec.Raw(news))
    assert other.deadlines.set == {registration.key: 30.0}
    assert other.topic.gather(whole=False) is None, "what was told isn't told on"
    own.deadlines.set[registration.key] = 12.5  # some time has passed
    [told] = own.topic.snapshot()
    newcomer.topic.take("own", msgspec.Raw(told))
    assert newcomer.deadlines.set == {registration.key: 12.5}


def test_a_deadline_without_a_drain_is_none() -> None:
    own, other = Router(), Router()
    registration = parse_registration({"role": "mixed", "host_ip": "10.0.0.1", "port": 8000})
    for router in (own, other):
        router.registry.register(registration, REGISTER_API)
    own.topic.drained(registration.key, 30.0)
    other.topic.take("own", msgspec.Raw(own.topic.gather(whole=False) or b""))
    assert other.deadlines.set == {}


def test_whoever_is_told_of_an_instance_has_read_its_next_heartbeat() -> None:
    own, other = Router(), Router()
    body = b'{"role": "mixed", "host_ip": "10.0.0.1", "port": 8000, "note": "as it came"}'
    registration = own.topic.reader.read(body)
    own.topic.registered(registration, body)
    news = own.topic.gather(whole=False)
    assert news is not None
    other.topic.take("own", msgspec.Raw(news))
    [known] = other.registry.all()
    assert other.topic.reader.read(body) is known.registration
    assert known.registration == registration
