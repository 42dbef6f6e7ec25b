"""Who is asked for KV events, and who is followed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fd_router.engines.kv_sources import KvEventSource
from fd_router.engines.openai import OpenAiDialect
from fd_router.engines.vllm import VllmDialect
from fd_router.errors import UpstreamError
from fd_router.instances.instance import Health, Instance
from fd_router.instances.kv_events.follower import AGAIN_SECS, AT_ONCE, KvEventFollower
from fd_router.instances.registration import Registration, parse_registration
from tests.support.fake_log import FakeLog

ANSWER = b'{"0": {"endpoint": "tcp://*:5557", "replay_endpoint": "tcp://*:5558", "publisher": "zmq"}}'


class Following:
    def __init__(self, closed: list[Following]) -> None:
        self._closed = closed

    def close(self) -> None:
        self._closed.append(self)


class Rig:
    def __init__(self, instances: list[Instance]) -> None:
        self.now = 0.0
        self.asked: list[str] = []
        self.added: list[tuple[str, KvEventSource]] = []
        self.closed: list[Following] = []
        self.answer: tuple[int, bytes] | UpstreamError = (200, ANSWER)
        self.is_broken = False
        self.log = FakeLog()
        self.follower = KvEventFollower(
            lambda: instances, self._get, self, _Caches(), clock=lambda: self.now, log=self.log
        )

    async def _get(self, instance: Instance, path: str, time_limit: float) -> tuple[int, bytes]:
        self.asked.append(path)
        if isinstance(self.answer, UpstreamError):
            raise self.answer
        return self.answer

    def add(self, host: str, source: KvEventSource, cache: Any) -> Following:
        if self.is_broken:
            raise OSError("no socket is left")
        self.added.append((host, source))
        return Following(self.closed)


class _Caches:
    def open(self, instance: Instance, ranks: int) -> Sequence[Any]:
        return [object()] * ranks

    def close(self, instance: Instance) -> None: ...


@pytest.fixture
def instance(describe: Callable[..., Registration]) -> Instance:
    made = Instance(describe(8000), VllmDialect())
    made.health = Health.HEALTHY
    return made


async def test_a_healthy_instance_is_asked_once_and_followed_until_it_is_lost(instance: Instance) -> None:
    rig = Rig([instance])
    instance.health = Health.UNHEALTHY
    await rig.follower.look()
    assert not rig.asked
    instance.health = Health.HEALTHY
    await rig.follower.look()
    await rig.follower.look()
    assert (rig.asked, rig.added) == (["/kv_event_sources"], [(instance.host, KvEventSource(5557, 5558))])
    rig.follower.drop(instance)
    assert len(rig.closed) == 1
    await rig.follower.look()
    assert len(rig.added) == 2


NO_ANSWER = UpstreamError("refused", "gone", instance="10.0.0.1:8000")


@pytest.mark.parametrize("answer", [(404, b""), (200, b"{}"), NO_ANSWER])
async def test_one_that_tells_of_none_is_asked_again_later(instance: Instance, answer: Any) -> None:
    rig = Rig([instance])
    rig.answer = answer
    await rig.follower.look()
    await rig.follower.look()
    assert len(rig.asked) == 1
    rig.now += AGAIN_SECS
    rig.answer = (200, ANSWER)
    await rig.follower.look()
    assert len(rig.added) == 1


async def test_a_registration_is_taken_at_its_word_but_not_to_another_host(describe: Any) -> None:
    told = Instance(describe(8000, kv_events="tcp://*:5557"), OpenAiDialect())
    other = Instance(describe(8001, kv_events="tcp://10.9.9.9:5557"), VllmDialect())
    told.health = other.health = Health.HEALTHY
    rig = Rig([told, other])
    await rig.follower.look()
    assert (rig.asked, rig.added) == ([], [(told.host, KvEventSource(5557))])
    assert "tells KV events at another host, 10.9.9.9" in str(vars(rig.log))


async def test_its_own_ipv6_address_is_no_other_host() -> None:
    told = parse_registration({"role": "mixed", "host_ip": "fd00::1", "port": 1, "kv_events": "tcp://[fd00::1]:5557"})
    instance = Instance(told, OpenAiDialect())
    instance.health = Health.HEALTHY
    rig = Rig([instance])
    await rig.follower.look()
    assert rig.added == [("fd00::1", KvEventSource(5557, host="fd00::1"))]


async def test_what_can_not_be_opened_is_told(instance: Instance) -> None:
    rig = Rig([instance])
    rig.is_broken = True
    await rig.follower.look()
    assert "can't be followed: no socket is left" in str(vars(rig.log))
    rig.follower.drop(instance)


async def test_one_that_goes_before_its_turn_is_not_followed(describe: Callable[..., Registration]) -> None:
    """Its registration tells of events; those before it are asked."""
    slow = [Instance(describe(8000 + number), VllmDialect()) for number in range(AT_ONCE)]
    gone = Instance(describe(9000, kv_events="tcp://*:5557"), VllmDialect())
    for each in (*slow, gone):
        each.health = Health.HEALTHY
    rig, gate = Rig([*slow, gone]), asyncio.Event()

    async def get(instance: Instance, path: str, time_limit: float) -> tuple[int, bytes]:
        await gate.wait()
        return 404, b""

    rig.follower._get_page = get
    looking = asyncio.create_task(rig.follower.look())
    await asyncio.sleep(0)
    gone.health = Health.UNHEALTHY  # as one that was removed
    rig.follower.drop(gone)
    gate.set()
    await looking
    assert rig.added == []
    gone.health = Health.HEALTHY
    await rig.follower.look()
    assert len(rig.added) == 1


async def test_one_that_registers_with_other_places_is_followed_there(describe: Callable[..., Registration]) -> None:
    """It was started anew so quickly that no probe has noticed."""
    instance = Instance(describe(8000, kv_events="tcp://*:5557"), OpenAiDialect())
    instance.health = Health.HEALTHY
    rig = Rig([instance])
    await rig.follower.look()
    instance.registration = describe(8000, kv_events="tcp://*:5557", labels={"zone": "a"})
    await rig.follower.look()
    assert len(rig.added) == 1
    instance.registration = describe(8000, kv_events="tcp://*:6000")
    await rig.follower.look()
    assert [source.port for _, source in rig.added] == [5557, 6000]
    assert len(rig.closed) == 1
    rig.follower.drop(instance)
    assert len(rig.closed) == 2
