"""Requests that their policy lets wait before they are sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from fd_router.instances.instance import Health, Instance
from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.scheduler import Scheduler
from tests.support.fake_transport import FakeTransport
from tests.support.rig import Rig, answer, post
from tests.support.scheduling_fakes import AskedGroup, Diary


class HoldingDiary(Diary):
    """The tracker of a request that is held until somebody says so."""

    send: Callable[[], None] | None = None

    def hold(self, send: Callable[[], None]) -> bool:
        self.send = send
        return True


class HoldingPolicy(Policy):
    """Takes the first candidate, and lets everybody wait."""

    def __init__(self) -> None:
        self.placed: list[HoldingDiary] = []

    def choose(self, _: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        return candidates[0]

    def on_dispatch(self, _request: RequestView, _candidate: Candidate) -> HoldingDiary:
        self.placed.append(diary := HoldingDiary())
        return diary

    def send(self) -> None:
        send = self.placed[-1].send
        assert send is not None
        send()


@pytest.fixture
def policy() -> HoldingPolicy:
    return HoldingPolicy()


@pytest.fixture
async def rig(policy: HoldingPolicy) -> Rig:
    rig = Rig()
    rig.change(select=Scheduler[Instance](AskedGroup(rig.available), policy, lambda: "none is there").select)
    return rig


async def begin(rig: Rig) -> FakeTransport:
    client = rig.client()
    client.receive(post())
    await rig.settle()
    return client


async def test_it_is_counted_at_once_and_sent_when_it_is_due(rig: Rig, policy: HoldingPolicy) -> None:
    client = await begin(rig)
    assert rig.backend.opened == []
    assert rig.counts() == [(1, 10), (0, 0)]
    assert rig.pools.busy(rig.instances[0].key) == 1  # so no audit takes it for a leak
    assert "waits in the router until http://10.0.0.1:8000 can begin with it" in rig.outlet.text
    policy.send()
    await rig.settle()
    (instance,) = rig.backend.opened
    instance.receive(answer(b"fine"))
    await rig.settle()
    assert client.take().endswith(b"\r\n\r\nfine")
    rig.assert_nothing_is_held()
    assert rig.pools.busy(rig.instances[0].key) == 0
    assert rig.records[0].attempts == 1


async def test_a_client_that_leaves_meanwhile(rig: Rig, policy: HoldingPolicy) -> None:
    client = await begin(rig)
    client.lose()
    await rig.settle()
    assert rig.records[0].outcome == "client_gone"
    assert policy.placed[0].heard == ["end"]
    policy.send()  # too late
    await rig.settle()
    assert rig.backend.opened == []
    rig.assert_nothing_is_held()


@pytest.mark.parametrize("what", ["removed", "down", "in doubt", "draining", "circuit open"])
async def test_an_instance_that_gets_nothing_new_meanwhile(rig: Rig, policy: HoldingPolicy, what: str) -> None:
    client = await begin(rig)
    first, second = rig.instances
    if what == "removed":
        rig.pools.retire(first.key)
    elif what == "draining":
        first.is_draining = True
    elif what == "circuit open":
        first.is_ejected = True
    else:
        first.health = Health.UNHEALTHY if what == "down" else Health.SUSPECT
    rig.instances = [second]
    policy.send()
    await rig.settle()
    assert rig.backend.opened == []  # the next one is waited for as well
    assert (first.running, second.running) == (0, 1)
    policy.send()
    await rig.settle()
    (instance,) = rig.backend.opened
    instance.receive(answer(b"fine"))
    await rig.settle()
    assert client.take().endswith(b"\r\n\r\nfine")
    assert (rig.records[0].attempts, rig.records[0].mixed) == (1, second.url)
    rig.assert_nothing_is_held()


@pytest.mark.parametrize("health", [Health.HEALTHY, Health.SUSPECT])
async def test_where_nobody_else_is_there_it_goes_where_it_was_to_go(
    rig: Rig, policy: HoldingPolicy, health: Health
) -> None:
    """To one that drains or is in doubt it might have been sent a moment before as well."""
    client = await begin(rig)
    first = rig.instances[0]
    first.health, first.is_draining = health, True
    rig.instances = []
    policy.send()
    await rig.settle()
    (instance,) = rig.backend.opened
    instance.receive(answer(b"fine"))
    await rig.settle()
    assert client.take().endswith(b"\r\n\r\nfine")
    assert (rig.records[0].attempts, rig.records[0].mixed) == (1, first.url)
    rig.instances = [first]
    rig.assert_nothing_is_held()


async def test_all_instances_are_gone_meanwhile(rig: Rig, policy: HoldingPolicy) -> None:
    client = await begin(rig)
    for instance in rig.instances:
        instance.health = Health.UNHEALTHY
    policy.send()
    await rig.settle()
    assert client.take().startswith(b"HTTP/1.1 502")
    rig.assert_nothing_is_held()
