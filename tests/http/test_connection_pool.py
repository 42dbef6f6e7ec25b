from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fd_router.config.connections import ConnectionRule, ConnectionSettings
from fd_router.errors import Retry, UpstreamError
from fd_router.http.connection_pool import InstancePool
from fd_router.http.instance_access import PLAIN, InstanceAccess
from fd_router.http.resolver import Resolver
from fd_router.http.upstream_connection import UpstreamConnection
from fd_router.instances.instance import Instance
from tests.support.fake_transport import FakeTransport
from tests.support.rig import STREAM_END, STREAM_HEAD, Rig, answer, chunk, make_instance


def raise_it(error: Exception) -> None:
    raise error


async def connect(rig: Rig, pool: InstancePool) -> UpstreamConnection:
    """Open a connection and keep it busy."""
    made: list[UpstreamConnection] = []
    pool.connect(made.append, lambda error: pytest.fail(str(error)), raise_it)
    await rig.settle()
    return made[0]


async def idle(rig: Rig, pool: InstancePool, count: int) -> list[UpstreamConnection]:
    connections = [await connect(rig, pool) for _ in range(count)]
    for connection in connections:
        pool.on_reusable(connection)
    await rig.settle()
    return connections


async def test_the_one_used_last_is_used_first() -> None:
    rig = Rig(1)
    pool = rig.pools.of(rig.instances[0])
    connections = await idle(rig, pool, 3)
    assert repr(pool) == "<InstancePool http://10.0.0.1:8000 open=3 idle=3>"
    assert [pool.acquire() for _ in range(4)] == [*reversed(connections), None]
    assert len(rig.pools) == pool.open == 3


async def test_no_more_are_kept_than_asked_for() -> None:
    rig = Rig(1, pool_max_idle=2)
    pool = rig.pools.of(rig.instances[0])
    await idle(rig, pool, 4)
    assert pool.open == 2
    assert len(rig.backend.live) == 2


async def test_idle_ones_close_after_a_while() -> None:
    rig = Rig(1, pool_idle_timeout_secs=4)
    pool = rig.pools.of(rig.instances[0])
    await idle(rig, pool, 2)
    taken = pool.acquire()
    await rig.pass_time(3.5)
    assert pool.open == 2
    taken.deadline = float("inf")  # type: ignore[union-attr]
    await rig.pass_time(1)
    assert pool.open == 1
    assert pool.acquire() is None


async def test_dead_ones_are_not_given_out() -> None:
    rig = Rig(1)
    pool = rig.pools.of(rig.instances[0])
    first, *_ = await idle(rig, pool, 3)
    rig.backend.opened[2].lose()
    rig.backend.opened[1].closed = True  # its end has not been told yet
    assert pool.acquire() is first
    assert pool.acquire() is None


async def test_a_retired_pool_keeps_nothing() -> None:
    rig = Rig(1)
    instance = rig.instances[0]
    pool = rig.pools.of(instance)
    busy, _ = await idle(rig, pool, 2)
    assert pool.acquire() is not busy
    assert pool.acquire() is busy
    await idle(rig, pool, 1)
    rig.pools.retire(instance.key)
    rig.pools.retire(instance.key)
    await rig.settle()
    assert pool.open == 2
    pool.on_reusable(busy)
    await rig.settle()
    assert pool.open == 1
    assert rig.pools.of(instance) is not pool


async def test_a_busy_connection_of_a_retired_pool_finishes_its_answer() -> None:
    rig = Rig(1)
    client = rig.client()
    transport = await rig.ask(client)
    rig.pools.retire(rig.instances[0].key)
    assert not transport.is_closing()
    transport.receive(answer(b"fine"))
    await rig.settle()
    assert client.written.endswith(b"fine")
    assert not rig.backend.live
    rig.assert_nothing_is_held()


async def test_closing_all_pools() -> None:
    rig = Rig(2)
    for instance in rig.instances:
        await idle(rig, rig.pools.of(instance), 2)
    rig.pools.close()
    await rig.settle()
    assert not rig.backend.live
    assert len(rig.pools) == 0


async def test_single_use() -> None:
    rig = Rig(1)
    pool = rig.pools.single_use(make_instance(9))
    await idle(rig, pool, 1)
    assert pool.acquire() is None
    assert not rig.backend.live


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(ConnectionRefusedError(), "refused"), (TimeoutError(), "connect_timeout"), (OSError("no route"), "unreachable")],
)
async def test_ways_to_fail(failure: BaseException, reason: str) -> None:
    rig = Rig(1)
    rig.backend.failures["10.0.0.1"] = [failure]
    errors: list[UpstreamError] = []
    rig.pools.of(rig.instances[0]).connect(lambda connection: pytest.fail("connected"), errors.append, raise_it)
    await rig.settle()
    (error,) = errors
    assert (error.reason, error.retry, error.instance) == (reason, Retry.ALWAYS, "http://10.0.0.1:8000")


async def test_connecting_has_a_time_limit() -> None:
    rig = Rig(1, connect_timeout_secs=0.01)
    rig.backend.hanging.add("10.0.0.1")
    failed = asyncio.get_running_loop().create_future()
    rig.pools.of(rig.instances[0]).connect(lambda connection: pytest.fail("connected"), failed.set_result, raise_it)
    error = await asyncio.wait_for(failed, 5)
    assert error.reason == "connect_timeout"
    assert error.detail == "no connection within 0.01 s"


async def test_a_cancelled_attempt_tells_nobody() -> None:
    rig = Rig(1)
    rig.backend.hanging.add("10.0.0.1")
    pool = rig.pools.of(rig.instances[0])
    task = pool.connect(lambda connection: pytest.fail("connected"), lambda error: pytest.fail("failed"), raise_it)
    await rig.settle()
    task.cancel()
    await rig.settle()
    assert task.cancelled()
    assert not pool._tasks


async def test_a_bug_of_whoever_asked_for_a_connection_is_told_to_it() -> None:
    rig = Rig(1)
    bugs: list[Exception] = []

    def broken(_: object) -> None:
        raise RuntimeError("a bug")

    pool = rig.pools.of(rig.instances[0])
    pool.connect(broken, lambda error: pytest.fail(str(error)), bugs.append)
    await rig.settle()
    rig.backend.failures["10.0.0.1"] = [ConnectionRefusedError()]
    pool.connect(lambda connection: pytest.fail("connected"), broken, bugs.append)
    await rig.settle()
    assert [str(bug) for bug in bugs] == ["a bug"] * 2


async def test_a_connection_that_is_there_when_nobody_wants_it_any_more_is_closed() -> None:
    """uvloop has opened it, and the task that waited for it is cancelled before it goes on."""
    rig = Rig(1)
    pool = rig.pools.of(rig.instances[0])
    create = rig.backend.create_connection

    async def create_and_be_cancelled(*arguments: Any, **options: Any) -> Any:
        made = await create(*arguments, **options)
        task.cancel()
        await asyncio.sleep(0)
        return made

    rig.loop.create_connection = create_and_be_cancelled  # type: ignore[method-assign,assignment]
    task = pool.connect(pytest.fail, pytest.fail, raise_it)
    await rig.settle()
    assert task.cancelled()
    assert rig.backend.opened[0].is_closing()
    assert pool.open == pool.busy == 0


async def test_and_so_is_one_that_comes_to_be_even_later() -> None:
    """uvloop tells the protocol of it behind the cancelled task."""
    rig = Rig(1)
    pool = rig.pools.of(rig.instances[0])
    factories: list[Any] = []

    async def never(factory: Any, *_: Any, **__: Any) -> Any:
        factories.append(factory)
        await asyncio.Event().wait()

    rig.loop.create_connection = never  # type: ignore[method-assign,assignment]
    task = pool.connect(pytest.fail, pytest.fail, raise_it)
    await rig.settle()
    task.cancel()
    await rig.settle()
    transport = FakeTransport(rig.loop)
    transport.connect(factories[0]())
    await rig.settle()
    assert transport.is_closing()
    assert pool.open == pool.busy == len(rig.sweeper) == 0


async def test_one_that_is_lost_before_its_task_goes_on_is_abandoned_once() -> None:
    rig = Rig(1)
    pool = rig.pools.of(rig.instances[0])
    connection = await connect(rig, pool)
    rig.backend.opened[0].lose()
    connection.abandon()
    assert pool.open == 0


async def test_it_tells_when_bytes_of_answers_under_way_came_last() -> None:
    rig = Rig(1)
    key = rig.instances[0].key
    assert rig.pools.streaming(key) == (0, 0.0, 0.0)
    streams = [await rig.ask(rig.client(), b'{"prompt": "x", "stream": true}') for _ in range(2)]
    assert rig.pools.streaming(key) == (0, 0.0, 0.0), "their bodies haven't begun"
    streams[0].receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
    await rig.pass_time(5.0)
    began = rig.pools.delivered_at(key)
    assert 0.0 < rig.timers.time() - began < 5.5
    streams[1].receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
    number, at, delivering = rig.pools.streaming(key)
    assert (number, round(at - began, 1), delivering) == (2, 5.0, 0.0), "each its first bytes only"
    await rig.pass_time(1.0)
    streams[1].receive(chunk(b"data: 2\n\n"))
    assert round(rig.pools.streaming(key)[2], 1) == 1.0
    streams[1].receive(STREAM_END)
    assert rig.pools.streaming(key) == (1, began, 0.0)
    streams[0].receive(STREAM_END)
    await rig.settle()
    assert rig.pools.streaming(key) == (0, 0.0, 0.0)
    rig.assert_nothing_is_held()


async def test_a_service_at_an_instances_address_has_a_pool_of_its_own(tmp_path: Path) -> None:
    """A tokenizer that is one of the engines: the router shows the instance a key, and the service none."""
    rig = Rig(1)
    (tmp_path / "key").write_text("secret")
    instance = rig.instances[0]
    instance.access = InstanceAccess(ConnectionRule("", ConnectionSettings(api_key_path=str(tmp_path / "key"))))
    service = rig.pools.service(instance, PLAIN)
    pool = rig.pools.of(instance)
    assert (service.own_headers, pool.own_headers) == ({}, {"authorization": "Bearer secret"})
    assert rig.pools.service(instance, PLAIN) is service
    await idle(rig, service, 1)
    rig.pools.retire(instance.key)
    assert (pool.retired, service.retired, len(rig.pools), rig.pools.busy(instance.key)) == (True, False, 1, 0)
    rig.pools.close()
    await rig.settle()
    assert (service.retired, len(rig.pools)) == (True, 0)


NO_ROUTE = OSError(errno.EHOSTUNREACH, "no route to host")
NO_IPV6 = OSError(errno.EADDRNOTAVAIL, "cannot assign requested address")
NO_FILES = OSError(errno.EMFILE, "too many open files")
REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "refused")


class Named:
    """A pool of an instance that is known by a name with two addresses."""

    def __init__(self, **failures: Exception | None) -> None:
        self.rig = Rig(1, connect_timeout_secs=0.1)
        for host, failure in zip(("10.0.0.1", "::1"), failures.values(), strict=True):
            if failure is not None:
                self.rig.backend.failures[host] = [failure]
        resolver = Resolver(self.rig.timers.time)
        resolver._known["engine"] = ("10.0.0.1", "::1"), self.rig.timers.time()
        registration = msgspec.structs.replace(make_instance(1).registration, host_ip="engine")
        instance = Instance(registration)
        self.pool = InstancePool(instance, self.rig.pools._upstream, PLAIN, resolver)

    async def reason(self) -> str:
        """Connect, and return why that failed, or where it is connected to."""
        done: asyncio.Future[UpstreamError | UpstreamConnection] = asyncio.get_running_loop().create_future()
        self.pool.connect(done.set_result, done.set_result, raise_it)
        result = await asyncio.wait_for(done, 5)
        return result.reason if isinstance(result, UpstreamError) else "connected"


@pytest.mark.parametrize("first", [REFUSED, NO_ROUTE, NO_IPV6, TimeoutError()])
async def test_whatever_is_wrong_with_one_address_of_a_name_the_next_is_tried(first: Exception) -> None:
    assert await Named(first=first, last=None).reason() == "connected"


async def test_one_address_of_a_name_without_an_answer_leaves_time_for_the_next() -> None:
    named = Named(first=None, last=None)
    named.rig.backend.hanging.add("10.0.0.1")
    assert await named.reason() == "connected"


@pytest.mark.parametrize(
    ("first", "last", "reason"),
    [
        (REFUSED, NO_IPV6, "refused"),
        (NO_IPV6, REFUSED, "refused"),
        (NO_IPV6, NO_IPV6, "exhausted"),
        (NO_ROUTE, NO_ROUTE, "unreachable"),
        (NO_ROUTE, TimeoutError(), "connect_timeout"),
    ],
)
async def test_what_is_said_when_no_address_of_a_name_can_be_reached(
    first: Exception, last: Exception, reason: str
) -> None:
    assert await Named(first=first, last=last).reason() == reason


async def test_no_other_address_is_tried_without_a_file_for_it() -> None:
    named = Named(first=NO_FILES, last=None)
    assert await named.reason() == "exhausted"
    assert not named.rig.backend.opened
