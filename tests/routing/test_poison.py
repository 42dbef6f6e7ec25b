"""A request under which instances die: two are enough."""

from __future__ import annotations

from typing import Any

import pytest

from fd_router.instances.doubt import Doubt
from fd_router.instances.instance import Health, Instance
from tests.routing.test_hope import Hoping
from tests.support.fake_transport import FakeTransport
from tests.support.pair_rig import PairRig
from tests.support.rig import Rig, answer, post


def make_rig(instances: int = 5, **settings: object) -> Rig:
    """Make a rig whose instances are known to be gone as soon as their connections fail."""
    rig = Rig(instances, **settings)
    rig.change(connection_failed=lambda instance, _: mark(instance, Doubt.GONE))
    return rig


def mark(instance: Instance, doubt: Doubt) -> None:
    instance.health = Health.SUSPECT if doubt else Health.HEALTHY
    instance.doubt = doubt


async def keep_connections(rig: Rig) -> list[FakeTransport]:
    """Have one kept connection to each instance."""
    for _ in rig.instances:
        (await rig.ask(rig.client())).receive(answer())
        await rig.settle()
    return list(rig.backend.opened)


async def die(rig: Rig, transport: FakeTransport) -> None:
    """The process behind ``transport`` ends: its connection is reset, its port refuses."""
    assert transport.peer is not None
    rig.backend.failures[transport.peer[0]] = [ConnectionRefusedError()] * 9
    transport.lose(ConnectionResetError("reset by peer"))
    await rig.settle()


async def test_two_instances_that_die_are_enough_over_new_connections() -> None:
    rig = make_rig()
    client = rig.client()
    await die(rig, await rig.ask(client))
    await die(rig, rig.backend.live[0])
    assert client.written.startswith(b"HTTP/1.1 502 ")
    assert b"x-should-retry: false" in client.written
    assert len(rig.backend.opened) == 2
    assert any("Not sent again: 2 instances died under the request" in line for line in rig.log_lines)
    rig.assert_nothing_is_held()


async def test_and_over_kept_ones_where_each_is_asked_a_second_time() -> None:
    rig = make_rig()
    await keep_connections(rig)
    client = rig.client()
    reached = await rig.ask(client)
    before = [len(transport.writes) for transport in rig.backend.opened]
    for _ in range(5):
        sent = [x for x, number in zip(rig.backend.opened, before, strict=True) if len(x.writes) > number]
        await die(rig, reached if reached in rig.backend.live else sent[0])
        if client.written:
            break
    assert client.written.startswith(b"HTTP/1.1 502 ")
    dead = {transport.peer for transport in rig.backend.opened if transport.is_closing()}
    assert len(dead) == 2
    rig.assert_nothing_is_held()


async def test_an_instance_that_is_back_at_once_gets_it_no_third_time() -> None:
    rig = make_rig(2)
    kept = await keep_connections(rig)
    client = rig.client()
    first = await rig.ask(client)
    first.lose(ConnectionResetError("reset by peer"))
    await rig.settle()
    (again,) = (x for x in rig.backend.live if x not in kept)
    again.lose(ConnectionResetError("reset by peer"))
    await rig.settle()
    (other,) = (x for x in kept if x.peer != first.peer)
    other.lose(ConnectionResetError("reset by peer"))
    await rig.settle()
    assert client.written.startswith(b"HTTP/1.1 502 ")
    assert len(rig.backend.opened) == 3, "the second instance isn't asked again"


async def test_instances_that_live_on_are_not_dead() -> None:
    rig = make_rig()
    client = rig.client()
    first = await rig.ask(client)
    first.lose(ConnectionResetError("reset by peer"))
    await rig.settle()
    mark(rig.instances[0], Doubt.NONE)  # its probe has come back
    rig.backend.live[0].lose(ConnectionResetError("reset by peer"))
    await rig.settle()
    rig.backend.live[0].receive(answer())
    await rig.settle()
    assert b"200 OK" in client.written


async def test_a_refusal_counts_where_something_was_sent() -> None:
    rig = make_rig(3, max_attempts=1)
    await keep_connections(rig)
    client = rig.client()
    await die(rig, await rig.ask(client))
    assert client.written.startswith(b"HTTP/1.1 502 ")


async def test_and_not_where_nothing_was() -> None:
    rig = make_rig(3, max_attempts=1)
    rig.backend.failures["10.0.0.1"] = [ConnectionRefusedError()]
    client = rig.client()
    client.receive(post())
    await rig.settle()
    rig.backend.live[0].receive(answer())
    await rig.settle()
    assert b"200 OK" in client.written


async def test_a_pair_loses_no_third_prefill() -> None:
    rig = PairRig(4, 4)
    rig.change(connection_failed=lambda instance, _: mark(instance, Doubt.GONE))
    client = rig.client()
    prefill, _ = await rig.pair(client, b'{"prompt": "x", "stream": true}')
    await die(rig, prefill)
    prefill, _ = rig.reached()
    await die(rig, prefill)
    assert client.written.startswith(b"HTTP/1.1 502 ")
    assert b"x-should-retry: false" in client.written
    rig.assert_nothing_is_held()


class TestInDoubt:
    """Two were lost, and their probes are still under way."""

    async def lose_two(self, **settings: Any) -> tuple[Hoping, FakeTransport]:
        rig = Hoping(**({"instances": 5} | settings))
        rig.set_health(Health.HEALTHY)
        rig.change(connection_failed=lambda instance, _: mark(instance, Doubt.BROKEN))
        client = rig.client()
        for _ in range(2):
            reached = await rig.ask(client) if not rig.backend.opened else rig.backend.live[0]
            reached.lose(ConnectionResetError("reset by peer"))
            await rig.settle()
        return rig, client

    @pytest.mark.parametrize("found", [Doubt.GONE, Doubt.NONE, Doubt.SICK])
    async def test_their_probes_decide(self, found: Doubt) -> None:
        rig, client = await self.lose_two()
        assert rig.queue.waiting == 1
        assert rig.backend.live == []
        for instance in [each for each in rig.instances if each.doubt is Doubt.BROKEN]:
            assert not client.written
            mark(instance, found)
            rig.queue.on_capacity()
            await rig.settle()
        rig.hope = 0.0
        rig.queue.on_capacity()
        await rig.settle()
        if found is Doubt.GONE:
            assert client.written.startswith(b"HTTP/1.1 502 ")
            assert b"x-should-retry: false" in client.written
        else:
            rig.backend.live[0].receive(answer())
            await rig.settle()
            assert b"200 OK" in client.written
        rig.assert_nothing_is_held()

    async def test_no_longer_than_a_probe_may_take(self) -> None:
        rig, client = await self.lose_two()
        await rig.pass_time(5.5)
        rig.backend.live[0].receive(answer())
        await rig.settle()
        assert b"200 OK" in client.written

    async def test_where_nobody_is_left_the_failure_says_more(self) -> None:
        rig, client = await self.lose_two(instances=2)
        rig.hope = 0.0
        for instance in rig.instances:
            mark(instance, Doubt.SICK)
        rig.queue.on_capacity()
        await rig.settle()
        assert client.written.startswith(b"HTTP/1.1 502 ")
        assert b"reset by peer before an answer" in client.written

    async def test_where_none_may_wait_it_ends(self) -> None:
        _, client = await self.lose_two(max_queued=0)
        assert client.written.startswith(b"HTTP/1.1 502 ")
