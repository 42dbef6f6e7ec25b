"""Requests for which there is no instance, while a probe under way may bring one back."""

from __future__ import annotations

from typing import Any

import pytest

from fd_router.admission.priorities import Priorities
from fd_router.instances.instance import Health
from fd_router.routing.request_queue import QueueObserver, RequestQueue
from tests.routing.test_request_queue import CrowdedRig
from tests.support.fake_transport import FakeTransport
from tests.support.rig import Rig, answer, post


class Hoping(Rig):
    """Instances that are away, and a probe that takes up to ``hope`` seconds."""

    def __init__(self, hope: float = 5.0, instances: int = 2, **admission: Any) -> None:
        super().__init__(instances, admission={"queue_timeout_secs": 30.0} | admission)
        self.hope = hope
        self.told: list[str] = []
        self.queue = RequestQueue(
            self.live, Priorities.parse(self.live.current.admission.priorities), self.sweeper, self.timers.time,
            self.loop.call_soon, QueueObserver(lambda _: None, self.told.append, self.told.append),
        )  # fmt: skip
        self.change(queue=self.queue, hope_secs=lambda: self.hope)
        self.set_health(Health.SUSPECT)

    def set_health(self, health: Health) -> None:
        for instance in self.instances:
            instance.health = health

    async def probed(self, health: Health) -> None:
        """The probe is over."""
        self.hope = 0.0
        self.set_health(health)
        self.queue.on_capacity()
        await self.settle()

    async def begin(self) -> FakeTransport:
        client = self.client()
        client.receive(post())
        await self.settle()
        return client


async def test_they_wait_and_are_sent_when_it_is_back() -> None:
    rig = Hoping()
    clients = [await rig.begin() for _ in range(3)]
    assert (rig.queue.waiting, rig.queue.hoping) == (3, 3)
    assert "No instance may be chosen until a probe says so: requests wait now" in rig.told[0]
    await rig.probed(Health.HEALTHY)
    for transport in rig.backend.live:
        transport.receive(answer())
    await rig.settle()
    assert [b"200 OK" in client.take() for client in clients] == [True] * 3
    assert (rig.queue.waiting, rig.queue.hoping) == (0, 0)
    rig.assert_nothing_is_held()


async def test_they_fail_at_once_when_it_is_not() -> None:
    rig = Hoping()
    clients = [await rig.begin() for _ in range(3)]
    await rig.probed(Health.UNHEALTHY)
    assert [b" 502 " in client.take() for client in clients] == [True] * 3
    assert rig.queue.waiting == 0
    late = await rig.begin()
    assert b"none is there" in late.take()


async def test_no_longer_than_a_probe_may_take() -> None:
    rig = Hoping(hope=5.0)
    client = await rig.begin()
    await rig.pass_time(4.9)
    assert not client.written
    await rig.pass_time(0.5)
    assert b" 502 " in client.take()
    assert (rig.queue.waiting, rig.queue.hoping) == (0, 0)
    assert rig.told[1:] == [], "no time limit of the queue was met"


async def test_one_probe_of_two_is_still_under_way() -> None:
    rig = Hoping()
    client = await rig.begin()
    rig.queue.on_capacity()
    await rig.settle()
    assert not client.written
    await rig.probed(Health.HEALTHY)
    assert len(rig.backend.live) == 1


async def test_they_count_among_those_that_may_wait() -> None:
    rig = Hoping(max_queued=1)
    first, second = await rig.begin(), await rig.begin()
    assert not first.written
    assert b" 502 " in second.take()


async def test_one_that_leaves_is_forgotten() -> None:
    rig = Hoping()
    client = await rig.begin()
    client.lose()
    await rig.settle()
    assert (rig.queue.waiting, rig.queue.hoping) == (0, 0)


@pytest.mark.parametrize("hope", [0.0, 5.0])
async def test_without_a_queue_nobody_waits(hope: float) -> None:
    rig = Hoping(hope=hope)
    rig.change(queue=None)
    client = await rig.begin()
    assert b" 502 " in client.take()


async def back_and_full(names: str) -> tuple[CrowdedRig, list[FakeTransport]]:
    """Have an instance come back with room for the first of those who waited for a probe of it."""
    rig = CrowdedRig(instances=1, limit=1, queue_timeout_secs=30.0)
    hope = [5.0]
    rig.change(hope_secs=lambda: hope[0])
    (instance,) = rig.instances
    instance.health = Health.SUSPECT
    clients = [await rig.send(name) for name in names]
    assert (rig.queue.waiting, rig.queue.hoping) == (len(names), len(names))
    hope[0], instance.health = 0.0, Health.HEALTHY
    rig.queue.on_capacity()
    await rig.settle()
    return rig, clients


async def test_who_finds_it_back_and_full_waits_on_as_long_as_all_others() -> None:
    rig, clients = await back_and_full("abcd")
    assert rig.seen() == ["a"]
    await rig.pass_time(6.0)
    assert [client.written for client in clients[1:]] == [b""] * 3, "a probe has brought it back: they wait for room"
    assert (rig.queue.waiting, rig.queue.hoping) == (3, 0)
    for name in "abcd":
        assert await rig.answer_one() == name
    rig.assert_nothing_is_held()


async def test_who_finds_it_back_and_full_has_waited_since_it_came() -> None:
    rig, clients = await back_and_full("abc")
    await rig.pass_time(29.5)
    assert [client.written for client in clients[1:]] == [b""] * 2
    await rig.pass_time(1.0)
    assert [b" 503 " in client.take() and b"queue_timeout" for client in clients[1:]] == [b"queue_timeout"] * 2
    assert rig.refusals == ["queue_timeout"] * 2
