"""What else becomes of the state engine: another password, keys of somebody else, messages that are none, a pause."""

from contextlib import asynccontextmanager

import msgspec
from redis import Redis

from fd_router.config.state import StateConfig
from fd_router.state.frames import LAYOUT
from fd_router.state.redis.bus import RedisBus
from tests.support.redis_server import RedisServer
from tests.support.redis_sets import ask
from tests.support.two_replicas import PREFIX, is_in_step, share, two_replicas, works_again
from tests.support.waiting import until

FRAMES = "{" + PREFIX + "}:frames"


@asynccontextmanager
async def two_in_step(tmp_path):
    with RedisServer() as server:
        async with two_replicas(tmp_path, url=server.url) as both:
            yield server, both


def is_down(*routers):
    return lambda: not any(router.router._shared.sync.is_up for router in routers)


async def all_well(*routers):
    return all([b"fine" in await router.ask() for router in routers])


async def test_another_password_is_gone_on_without(tmp_path):
    async with two_in_step(tmp_path) as (server, (one, two)):
        await share(one, two)
        ask(server, "CONFIG", "SET", "requirepass", "new")
        ask(server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes", password="new")
        await until(is_down(one, two))
        assert await all_well(one, two)
        ask(server, "CONFIG", "SET", "requirepass", "", password="new")
        await until(works_again(one, two))
        await share(one, two)


async def test_a_key_of_somebody_elses_is_told_with_the_mend(tmp_path):
    async with two_in_step(tmp_path) as (server, (one, two)):
        await share(one, two)
        ask(server, "DEL", FRAMES)
        while ask(server, "SET", FRAMES, "x", "NX") is None:  # they are quick to make it anew
            ask(server, "DEL", FRAMES)
        await until(is_down(one, two))
        assert await all_well(one, two)
        ask(server, "DEL", FRAMES)
        await until(works_again(one, two))
        await share(one, two)
    assert "keys that begin with {prod} are somebody else's, too; set another state.key-prefix" in one.outlet.text


def frame(**facts):
    packed = msgspec.msgpack.encode(["stranger", 1, False, msgspec.msgpack.encode(facts), {}])
    return bytes((LAYOUT,)) + packed


DEEP = b"\x91" * 100_000 + b"\xc0"
NAN = float("nan")


NONE_OF_A_ROUTERS = (
    b"",
    b"\xff" * 100,
    bytes((LAYOUT,)) + DEEP,
    bytes((LAYOUT + 1,)) + b"of a newer router",
    bytes((LAYOUT,)) + msgspec.msgpack.encode(["stranger", 1, False, b"\x81\xa5loads" + DEEP, {}]),
    frame(loads=[True, {"127.0.0.1:1": [-5, 1 << 62]}]),
    frame(learning={"whole": True, "work": {"http://127.0.0.1:1": [NAN, NAN, 1e300]}, "observed": [["x", NAN, 1]]}),
    frame(members={"registered": [[b"{}"]], "bans": {"127.0.0.1:1": NAN}, "draining": {"x": True}, "news": 1}),
    frame(calls=["id", "abort", b"{}"]),
    frame(learning={"sizes": {"http://127.0.0.1:1": float("inf")}}),
    frame(verdicts={"x": 1}, trials=[], lists="x", prefixes={}, weather=[1, 2]),
)


async def test_messages_that_are_none_are_passed_over_and_told_once_each(tmp_path):
    async with two_in_step(tmp_path) as (server, (one, two)):
        await share(one, two)
        with Redis(port=server.port) as client:
            for _ in range(2):
                for data in NONE_OF_A_ROUTERS:
                    client.xadd(FRAMES, {"f": data})
            client.xadd(FRAMES, {"another field": "x"})
            client.xadd(FRAMES, {"f": frame(bye=None)})
        await until(lambda: all("The router stranger has ended" in each.outlet.text for each in (one, two)))
        assert is_in_step(one)
        assert is_in_step(two)
        await share(one, two)
    told = [line for line in one.outlet.text.splitlines() if "[WARN]" in line]
    for part in (
        "layout 2, not 1",
        "none of a router's",
        "of 'trials' can't",
    ):
        assert sum(part in line for line in told) == 1, part


async def test_an_instance_that_one_finds_down_is_for_all_to_probe(tmp_path):
    async with two_in_step(tmp_path) as (server, (one, two)):
        await share(one, two)
        key = f"127.0.0.1:{one.instances[0].port}"

        def probing():
            return [each.router._membership.monitor._is_mine(key) for each in (one, two)].count(True)

        assert probing() == 1
        with Redis(port=server.port) as client:
            client.xadd(FRAMES, {"f": frame(verdicts={key: False})})
            await until(lambda: probing() == 2)
            client.xadd(FRAMES, {"f": frame(bye=None)})
            await until(lambda: probing() == 1)


async def test_a_bus_that_is_opened_again_connects_anew(tmp_path):
    with RedisServer() as server:
        bus = RedisBus(StateConfig(url=server.url), "one")
        try:
            await bus.open()
            await bus.send(b"a frame")
            writing = "cmd=xadd"  # sentinels may name another master by the time that it is opened again
            assert writing in ask(server, "CLIENT", "LIST")
            await bus.open()
            await until(lambda: writing not in ask(server, "CLIENT", "LIST"))
            await bus.send(b"another")
            assert await bus.receive() == [b"another"]
        finally:
            await bus.close()
