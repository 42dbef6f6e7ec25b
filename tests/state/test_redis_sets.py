"""Replicas that share a server with TLS and a password, behind sentinels, in a cluster; one that is full, or slow."""

import asyncio
from contextlib import asynccontextmanager
from urllib.parse import quote

import pytest

from tests.support.certificates import Certificates
from tests.support.jumping_clock import WRAPPER, jump
from tests.support.live_router import BEGUN, LiveRouter, message
from tests.support.mock_process import RouterProcess
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, speaks_tls
from tests.support.redis_sets import MASTER, ask, cluster, sentinel_set
from tests.support.slow_way import SlowWay
from tests.support.two_replicas import PREFIX, is_in_step, share, two_replicas, works_again
from tests.support.waiting import until

PASSWORD = "p@ss, word"
"""Has what a URL must quote."""


@pytest.mark.skipif(not speaks_tls(), reason="redis-server was built without TLS")
async def test_over_tls_with_a_password_and_certificates_on_both_sides(tmp_path):
    made = Certificates(tmp_path)
    cert, key = made.issue("127.0.0.1")
    own_cert, own_key = made.issue("replica", file="replica")
    port = free_port()
    options = [
        "--tls-port", str(port), "--tls-cert-file", str(cert), "--tls-key-file", str(key),
        "--tls-ca-cert-file", str(made.authority_path), "--requirepass", PASSWORD,
    ]  # fmt: skip
    with RedisServer(*options) as server:
        async with two_replicas(
            tmp_path,
            url=f"rediss://127.0.0.1:{port}",
            password=PASSWORD,
            ca_file=str(made.authority_path),
            cert_file=str(own_cert),
            key_file=str(own_key),
        ) as (one, two):
            await share(one, two)
            names = ask(server, "KEYS", "*", password=PASSWORD)
            assert names
            assert all(name.startswith("{" + PREFIX + "}:") for name in names)


async def test_the_sentinels_master_fails_over_and_its_replica_is_gone_on_with(tmp_path):
    with sentinel_set(PASSWORD, "the sentinel's") as servers:
        url = servers.url.replace("//", f"//:{quote(PASSWORD)}@")
        async with two_replicas(tmp_path, url=url, sentinel_master=MASTER, sentinel_password="the sentinel's") as (
            one,
            two,
        ):
            await share(one, two)
            servers.master.kill()
            assert all([b"fine" in await each.ask() for each in (one, two)])
            await until(works_again(one, two))
            await share(one, two)
            role, *_ = ask(servers.replica, "ROLE", password=PASSWORD)
            assert role == "master"
            assert PASSWORD not in one.outlet.text
            assert quote(PASSWORD) not in one.outlet.text


async def test_a_clusters_node_fails_over_and_its_replica_is_gone_on_with(tmp_path):
    with cluster("{" + PREFIX + "}:frames") as servers:
        async with two_replicas(tmp_path, url=servers.url, cluster=True) as (one, two):
            await share(one, two)
            servers.owner.kill()
            assert all([b"fine" in await each.ask() for each in (one, two)])
            await until(works_again(one, two))
            await share(one, two)
            assert ask(servers.replica, "EXISTS", "{" + PREFIX + "}:frames")


async def test_a_server_that_is_full_is_gone_on_without_until_it_has_room(tmp_path):
    with RedisServer() as server:
        async with two_replicas(tmp_path, url=server.url) as (one, two):
            await share(one, two)
            ask(server, "CONFIG", "SET", "maxmemory", 1)  # noeviction: nothing is written any more
            await until(lambda: not one.router._shared.sync.is_up and not two.router._shared.sync.is_up)
            assert all([b"fine" in await each.ask() for each in (one, two)])
            ask(server, "CONFIG", "SET", "maxmemory", 0)
            await until(works_again(one, two))
            await share(one, two)


async def test_over_a_slow_server_all_is_shared_later_and_no_request_waits_for_it(tmp_path):
    with RedisServer() as server:
        async with SlowWay(server.port, 0.1) as way:
            url = f"redis://127.0.0.1:{way.port}"
            async with two_replicas(tmp_path, url=url, timeout_secs=20.0) as (one, two):
                await share(one, two)


def other_router(server):
    return RouterProcess({"state": {"url": server.url, "key-prefix": PREFIX}}, wrapper=WRAPPER)


@asynccontextmanager
async def under_way(port):
    """A stream that doesn't end."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(message(b'{"prompt": "hello", "stream": true}'))
    try:
        yield
    finally:
        writer.close()


async def test_replicas_whose_clocks_are_a_day_apart_know_the_same(tmp_path):
    with RedisServer() as server, other_router(server) as other:
        async with LiveRouter(
            tmp_path, "log.level", "debug", {"state": {"url": server.url, "key_prefix": PREFIX}}
        ) as own:
            await until(lambda: is_in_step(own))
            backend = await own.add()
            backend.answer = BEGUN
            instance = own.router._membership.registry.all()[0]
            await asyncio.to_thread(other.wait_for_instances, 1)
            undo = jump(other)
            async with under_way(other.port):
                await until(lambda: instance.running_elsewhere == 1)
            await until(lambda: instance.running_elsewhere == 0)
            await asyncio.to_thread(other.call, "POST", f"/instances/{instance.key}/drain")
            await until(lambda: instance.is_draining)
            undo()
            await asyncio.to_thread(other.call, "DELETE", f"/instances/{instance.key}?ban_secs=60")
            registry = own.router._membership.registry
            await until(lambda: 0 < registry.banned_secs(instance.key) <= 60)
            await until(lambda: is_in_step(own))
