"""Several routers before one fleet, in one loop, with a server between them."""

import asyncio
import json

import pytest

from fd_router.admission.keys import entry, hash_key
from fd_router.scheduling.ttft.policy import TtftAwarePolicy
from tests.support.live_router import BEGUN, LiveRouter, LoopbackInstance
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

PREFIX = {"scheduler": {"policy": "cache_aware", "cache_block_size": 4}}


@pytest.fixture(scope="module")
def server():
    with RedisServer() as server:
        yield server


def replica(tmp_path, server, **sections):
    state = {"url": server.url, "key_prefix": tmp_path.name, **sections.pop("state", {})}
    return LiveRouter(tmp_path, "log.level", "debug", {"state": state, **sections})


def knows(router, count):
    return lambda: len(router.router._membership.registry.all()) == count


def instance_of(router, port):
    return router.router._membership.registry.get(f"127.0.0.1:{port}")


async def test_a_registration_at_one_router_is_known_to_all_and_to_one_that_starts_later(tmp_path, server):
    async with replica(tmp_path, server) as one, replica(tmp_path, server) as two:
        backend = await one.add()
        await until(knows(two, 1))
        assert b"fine" in await two.ask()
        async with replica(tmp_path, server) as late:
            assert knows(late, 1)()  # when it is ready
            assert b"fine" in await late.ask()
            await one.call("POST", f"/instances/127.0.0.1:{backend.port}/drain")
            await until(lambda: instance_of(late, backend.port).is_draining)
            await late.call("DELETE", f"/instances/127.0.0.1:{backend.port}?ban_secs=60")
            await until(knows(one, 0))
            await until(knows(two, 0))
            status, _ = await two.call(
                "POST",
                "/register",
                json.dumps({"role": "mixed", "host_ip": "127.0.0.1", "port": backend.port}).encode(),
            )
            assert status == 403


async def test_loads_are_summed_and_vanish_with_their_router(tmp_path, server):
    async with replica(tmp_path, server) as one:
        async with replica(tmp_path, server) as two:
            backend = await one.add()
            backend.answer = BEGUN
            await until(knows(two, 1))
            two.ask_beside()
            await until(lambda: instance_of(one, backend.port).running == 1)
            instance = instance_of(one, backend.port)
            assert (instance.own_running, instance.running_elsewhere) == (0, 1)
        await until(lambda: instance.running == 0)


async def test_prefixes_that_one_router_sent_are_known_to_the_other_and_to_a_late_one(tmp_path, server):
    async with replica(tmp_path, server, **PREFIX) as one, replica(tmp_path, server, **PREFIX) as two:
        await one.add()
        await until(knows(two, 1))
        await one.ask(json.dumps({"prompt": "a prompt of quite some length"}).encode())
        known = one.router._scheduling.index
        await until(lambda: two.router._scheduling.index.blocks == known.blocks > 0)
        async with replica(tmp_path, server, **PREFIX) as late:
            assert late.router._scheduling.index.blocks == known.blocks
        await asyncio.sleep(0)


def ttft_policy(router):
    policy = router.router._scheduling.policies["mixed"]
    while not isinstance(policy, TtftAwarePolicy):
        policy = policy._policy
    return policy


async def test_what_ttft_aware_has_at_instances_and_learns_is_known_to_the_other_and_to_a_late_one(tmp_path, server):
    sections = {"scheduler": {"policy": "ttft_aware"}}
    async with replica(tmp_path, server, **sections) as one, replica(tmp_path, server, **sections) as two:
        backend = await one.add()
        await until(knows(two, 1))
        await one.ask()
        backlog = ttft_policy(one).backlog_of(instance_of(one, backend.port).url)
        assert backlog.running == 0
        backend.answer = BEGUN
        two.ask_beside(json.dumps({"prompt": "x" * 400, "stream": True}).encode())
        await until(lambda: backlog.running_elsewhere == 1)
        learnt = ttft_policy(two)._learner.learnt
        await until(lambda: learnt()[0])
        async with replica(tmp_path, server, **sections) as late:
            assert set(ttft_policy(late)._learner.learnt()[0]) == set(learnt()[0])


NO_ABORTS = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
KEY = "sk-alice-0123456789abcdef"


async def burst(routers, count):
    headers = f"Authorization: Bearer {KEY}\r\n"
    answers = await asyncio.gather(*(routers[n % len(routers)].ask(headers=headers) for n in range(count)))
    statuses = [int(answer.split()[1]) for answer in answers]
    assert set(statuses) <= {200, 429}
    return statuses.count(200)


async def test_a_keys_limit_holds_for_all_routers_together_and_each_has_its_share_without_the_server(
    tmp_path, server, monkeypatch
):
    monkeypatch.setattr("fd_router.admission.shared_limits.WAIT_SECONDS", 30.0)  # else a busy machine's share counts
    keys = tmp_path / "keys.yaml"
    keys.write_text("keys:\n" + entry("alice", hash_key(KEY)) + "    requests-per-minute: 60\n")
    sections = {"access": {"keys_path": str(keys)}}
    with RedisServer() as own:
        async with replica(tmp_path, own, **sections) as one, replica(tmp_path, own, **sections) as two:
            await one.add()
            await until(knows(two, 1))
            await until(lambda: len(one.router._shared.sync.peers) == len(two.router._shared.sync.peers) == 2)
            began = asyncio.get_running_loop().time()
            let_in = await burst([one, two], 150)
            over = asyncio.get_running_loop().time()
            assert 60 <= let_in <= 61 + over - began
            own.kill()
            await until(lambda: not one.router._shared.sync.is_up and not two.router._shared.sync.is_up)
            await asyncio.sleep(2.0)
            let_in = await burst([one, two], 40)  # what has come in the meantime, and not a new minute's
            assert let_in <= 8 + asyncio.get_running_loop().time() - over


async def test_a_request_that_runs_at_another_router_is_aborted_by_its_id(tmp_path, server):
    async with replica(tmp_path, server) as one, replica(tmp_path, server) as two:
        backend = await one.add()
        backend.answer_to = lambda body: BEGUN if b"prompt" in body else NO_ABORTS
        await until(knows(two, 1))
        body = json.dumps({"prompt": "x", "stream": True, "request_id": "mine"}).encode()
        asking = asyncio.create_task(two.ask(body))
        await until(lambda: instance_of(two, backend.port).own_running == 1)
        status, answer = await one.call("POST", "/v1/abort_requests", b'{"req_ids": ["mine", "nobodys"]}')
        assert status == 200
        assert [entry["request_id"] for entry in answer["result"]["aborted"]] == ["mine"]
        assert answer["result"]["not_found"] == ["nobodys"]
        await asyncio.wait_for(asking, 10)
        assert instance_of(two, backend.port).own_running == 0


async def test_whatever_becomes_of_the_server_no_client_notices_and_everything_heals(tmp_path):
    with RedisServer() as own:
        async with (
            replica(tmp_path, own, state={"timeout_secs": 0.5}) as one,
            replica(tmp_path, own, state={"timeout_secs": 0.5}) as two,
        ):
            both = [one, two]
            syncs = [each.router._shared.sync for each in both]

            async def all_well():
                assert all([b"fine" in await each.ask() for each in both])

            backend = await one.add()
            await until(knows(two, 1))
            own.kill()
            await until(lambda: not any(sync.is_up for sync in syncs))
            await all_well()
            extra = await two.add()
            own.start()  # and has forgotten everything
            await until(lambda: all(sync.is_up and len(sync.peers) == 2 for sync in syncs))
            await until(knows(one, 2))
            own.pause()
            await all_well()
            await until(lambda: not any(sync.is_up for sync in syncs))
            await all_well()
            own.go_on()
            await until(lambda: all(sync.is_up and len(sync.peers) == 2 for sync in syncs))
            two.ask_beside()
            backend.answer = extra.answer = BEGUN
            for each in both:
                each.ask_beside()
            ports = [backend.port, extra.port]
            await until(lambda: sum(instance_of(one, port).running_elsewhere for port in ports) >= 1)

            def told(router, part):
                return sum(part in line for line in router.outlet.text.splitlines() if "[WARN]" in line)

            for each in both:  # one warning each way; a busy machine may have been slow enough for one more
                await until(lambda each=each: told(each, "can't be had") == told(each, "works again") >= 2)


def write_fleet(path, *instances):
    entries = [{"role": "mixed", "host_ip": "127.0.0.1", "port": instance.port} for instance in instances]
    path.write_text(json.dumps({"instances": entries}))


async def test_what_a_discovery_finds_and_loses_is_its_own_routers_alone(tmp_path, server):
    """A router whose discovery fails takes nothing from the others, and an admin's drain reaches all the same."""
    files = tmp_path / "one.json", tmp_path / "two.json"
    instance = LoopbackInstance()
    await instance.start()
    for file in files:
        write_fleet(file, instance)
    sections = [{"discovery": {"file": str(file), "file_check_secs": 0.05}} for file in files]
    async with replica(tmp_path, server, **sections[0]) as one, replica(tmp_path, server, **sections[1]) as two:
        one.instances.append(instance)
        assert b"fine" in await one.ask()
        assert b"fine" in await two.ask()
        write_fleet(files[0])
        await until(knows(one, 0))
        async with replica(tmp_path, server) as late:  # hears of all that is shared
            assert knows(late, 0)()
        assert b"fine" in await two.ask()
        write_fleet(files[0], instance)
        await until(knows(one, 1))
        await two.call("POST", f"/instances/127.0.0.1:{instance.port}/drain")
        await until(lambda: instance_of(one, instance.port).is_draining)
