"""A request under which instances die: two are enough."""

from __future__ import annotations

from fd_router.instances.instance import Health
from tests.support.fake_transport import FakeTransport
from tests.support.pair_rig import PairRig
from tests.support.rig import Rig, answer, post


def make_rig(instances: int = 5, **settings: object) -> Rig:
    """Make a rig whose instances become suspect when their connections fail, as those of a registry do."""
    rig = Rig(instances, **settings)

    def connection_failed(instance: object, reason: str) -> None:
        (found,) = (each for each in rig.instances if each is instance)
        found.health = Health.SUSPECT
        rig.failed.append((found.key, reason))

    rig.change(connection_failed=connection_failed)
    return rig


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
    assert any("Not sent again: 2 instances were lost under the request" in line for line in rig.log_lines)
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
    rig.instances[0].health = Health.HEALTHY  # its probe has come back
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
    rig.change(connection_failed=lambda instance, _: setattr(instance, "health", Health.SUSPECT))
    client = rig.client()
    prefill, _ = await rig.pair(client, b'{"prompt": "x", "stream": true}')
    await die(rig, prefill)
    prefill, _ = rig.reached()
    await die(rig, prefill)
    assert client.written.startswith(b"HTTP/1.1 502 ")
    assert b"x-should-retry: false" in client.written
    rig.assert_nothing_is_held()
