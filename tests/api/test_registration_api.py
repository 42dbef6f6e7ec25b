from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from fd_router.admission.networks import Networks
from fd_router.api.registration import RegistrationApi
from fd_router.http.resolver import ForbiddenAddressError
from fd_router.instances.instance import Health
from fd_router.instances.prober import Outcome
from fd_router.instances.registration import Registration
from fd_router.instances.source import REGISTER_API
from fd_router.instances.sources.members import FleetSources, SourceMembers

WELL = Outcome(healthy=True, detail="status 200", seconds=0.01)
ILL = Outcome(healthy=False, detail="connection refused", seconds=0.01)
MIXED: dict[str, Any] = {"role": "mixed", "host_ip": "10.0.0.1", "port": 8000}


class Check:
    """Stands in for the monitor's probe."""

    def __init__(self) -> None:
        self.outcome = WELL
        self.gate: asyncio.Event | None = None
        self.asked: list[str] = []

    async def __call__(self, registration: Registration) -> Outcome:
        self.asked.append(registration.url)
        if self.gate is not None:
            await self.gate.wait()
        return self.outcome


@pytest.fixture
def check() -> Check:
    return Check()


@pytest.fixture
def members(registry, log) -> SourceMembers:
    return FleetSources(registry, lambda _registration: None, log=log).members_of(REGISTER_API)


@pytest.fixture
def routes(registry, members, check, log):
    return RegistrationApi(registry, members, check, splitwise=False, log=log).routes()


@pytest.fixture
def pd_routes(registry, members, check, log):
    return RegistrationApi(registry, members, check, splitwise=True, log=log).routes()


async def test_a_healthy_instance_is_registered(routes, ask, registry, check, log) -> None:
    answer = await ask(routes, "POST", "/register", body=json.dumps(MIXED).encode())
    assert answer == (200, {"code": 200, "msg": "Register success"})
    assert [x.url for x in registry.group("mixed").available] == ["http://10.0.0.1:8000"]
    assert check.asked == ["http://10.0.0.1:8000"]
    assert log.lines == []


async def test_a_banned_one_is_refused_for_its_time(routes, ask, registry, clock) -> None:
    registry.ban("10.0.0.1:8000", 60)
    body = json.dumps(MIXED).encode()
    message = "http://10.0.0.1:8000 was removed by an admin, and banned for 60 s more"
    assert await ask(routes, "POST", "/register", body=body) == (403, {"code": 403, "msg": message})
    assert registry.all() == ()
    clock.now += 60
    assert (await ask(routes, "POST", "/register", body=body))[0] == 200


async def test_one_that_is_banned_while_it_is_probed_is_refused(routes, ask, registry, check) -> None:
    check.gate = asyncio.Event()
    answer = asyncio.ensure_future(ask(routes, "POST", "/register", body=json.dumps(MIXED).encode()))
    await asyncio.sleep(0)
    registry.ban("10.0.0.1:8000", 60)
    check.gate.set()
    assert (await answer)[0] == 403


async def test_an_unhealthy_one_is_not(routes, ask, registry, check, log) -> None:
    check.outcome = ILL
    body = json.dumps(MIXED | {"host_ip": "::1"}).encode()
    answer = await ask(routes, "POST", "/register", body=body)
    assert answer == (503, {"code": 503, "msg": "http://[::1]:8000 service is not healthy"})
    assert registry.all() == ()
    assert log.lines == [
        ("error", "Failed to register instance: http://[::1]:8000 service is not healthy (connection refused)")
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "Invalid InstanceInfo JSON format: Input data was truncated"),
        (b"[1]", "Invalid InstanceInfo JSON format: expected an object, got a list"),
        (b"{}", "invalid InstanceInfo format: role is required"),
        (json.dumps(MIXED | {"port": 99999}).encode(), "invalid InstanceInfo format: invalid port: 99999"),
        (json.dumps(MIXED | {"role": "prefill"}).encode(), "only MIXED instances are allowed"),
    ],
)
async def test_what_is_refused(routes, ask, registry, check, log, body: bytes, message: str) -> None:
    assert await ask(routes, "POST", "/register", body=body) == (400, {"code": 400, "msg": message})
    assert log.lines == [("error", f"Failed to register instance: {message}")]
    assert check.asked == []  # what is refused is not probed
    assert registry.all() == ()


async def test_splitwise_mode_takes_prefill_and_decode_only(pd_routes, ask, registry) -> None:
    answer = await ask(pd_routes, "POST", "/register", body=json.dumps(MIXED).encode())
    assert answer == (400, {"code": 400, "msg": "splitwise mode only supports PREFILL/DECODE instances"})
    for role, port in (("prefill", 1), ("decode", 2)):
        body = json.dumps(MIXED | {"role": role, "port": port}).encode()
        assert (await ask(pd_routes, "POST", "/register", body=body))[0] == 200
    assert registry.counts() == {"mixed": 0, "prefill": 1, "decode": 1}


async def test_two_heartbeats_at_once_are_harmless(routes, ask, registry, check) -> None:
    instance = registry.register(Registration(role="mixed", host_ip="10.0.0.1", port=8000, metrics_port=8000))
    instance.acquire(10)
    check.gate = asyncio.Event()
    beats = [
        asyncio.create_task(
            ask(routes, "POST", "/register", body=json.dumps(MIXED | {"metrics_port": 9000 + i}).encode())
        )
        for i in range(4)
    ]
    await asyncio.sleep(0)
    assert len(check.asked) == 4
    check.gate.set()
    assert [status for status, _ in await asyncio.gather(*beats)] == [200] * 4
    assert registry.all() == (instance,)
    assert (instance.running, instance.tokens) == (1, 10)
    assert instance.registration.metrics_port == 9003


async def test_an_instance_that_fell_comes_back_by_its_heartbeat(routes, ask, registry, describe) -> None:
    instance = registry.register(describe(8000))
    registry.probe_failed(instance, "x")
    await ask(routes, "POST", "/register", body=json.dumps(MIXED).encode())
    assert instance.health is Health.HEALTHY


async def test_registered_lists_what_is_in_service(pd_routes, ask, registry, describe) -> None:
    registry.register(
        describe(
            1,
            "prefill",
            connector_port=9001,
            engine_worker_queue_port=6001,
            transfer_protocol=["ipc", "rdma"],
            rdma_ports=[7100],
            device_ids=[0, 1],
        )
    )
    dead = registry.register(describe(2, "decode"))
    registry.probe_failed(dead, "x")
    assert await ask(pd_routes, "GET", "/registered") == (
        200,
        {
            "code": 200,
            "msg": "success",
            "mixed": [],
            "prefill": [
                {
                    "url": "http://10.0.0.1:1",
                    "worker_type": "prefill",
                    "connector_port": "9001",
                    "engine_worker_queue_port": "6001",
                    "transfer_protocol": ["ipc", "rdma"],
                    "rdma_ports": ["7100"],
                    "device_ids": ["0", "1"],
                    "metrics_port": "1",
                    "tp_size": 2,
                }
            ],
            "decode": [],
        },
    )
    assert await ask(pd_routes, "GET", "/registered_number") == (200, {"mixed": 0, "prefill": 1, "decode": 0})


async def test_decode_instances_in_the_registration_schema(pd_routes, ask, registry, describe) -> None:
    registry.register(describe(1, "prefill"))
    registry.register(describe(2, "decode", transfer_protocol="rdma", rdma_ports=[7100], version="v1", shiny=[1]))
    status, [entry] = await ask(pd_routes, "GET", "/decode_instances")
    assert status == 200
    assert entry == {
        "role": "decode",
        "host_ip": "10.0.0.1",
        "port": 2,
        "connector_port": 0,
        "engine_worker_queue_port": [],
        "transfer_protocol": ["rdma"],
        "rdma_ports": ["7100"],
        "device_ids": [],
        "metrics_port": 2,
        "tp_size": 1,
        "is_paused": False,
        "version": "v1",
        "shiny": [1],
    }


@pytest.mark.parametrize(
    ("query", "ports"),
    [
        ("", [1, 2, 3]),
        ("version=v1", [1, 3]),
        ("other=x&version=v%32", [2, 3]),
        ("version=v9", [3]),
        ("version=", [1, 2, 3]),
        ("version", [1, 2, 3]),
        ("%%%&;=", [1, 2, 3]),
    ],
)
async def test_decode_instances_of_a_version(pd_routes, ask, registry, describe, query: str, ports: list[int]) -> None:
    registry.register(describe(1, "decode", version="v1"))
    registry.register(describe(2, "decode", version="v2"))
    registry.register(describe(3, "decode"))  # tells no version: fits all
    _status, entries = await ask(pd_routes, "GET", "/decode_instances", query=query)
    assert [entry["port"] for entry in entries] == ports


async def test_decode_instances_that_may_not_be_chosen_are_left_out(pd_routes, ask, registry, describe) -> None:
    registry.register(describe(1, "decode", is_paused=True))
    registry.connection_failed(registry.register(describe(2, "decode")), "refused")
    assert await ask(pd_routes, "GET", "/decode_instances") == (200, [])


class Names:
    """Stands in for the resolver."""

    async def __call__(self, host: str) -> tuple[str, ...]:
        if host == "elsewhere":
            raise ForbiddenAddressError("elsewhere is at 192.0.2.1, which is in none of access.register-networks")
        if host == "nowhere":
            raise OSError("nowhere: Name or service not known")
        return ("10.0.0.7",) if host == "engine.example" else (host,)


@pytest.fixture
def named_routes(registry, members, check, log):
    networks = Networks.parse("10.0.0.0/8", "x")
    api = RegistrationApi(registry, members, check, splitwise=False, log=log, networks=networks, resolve=Names())
    return api.routes()


async def test_an_instance_may_have_a_name(named_routes, ask, registry) -> None:
    body = json.dumps(MIXED | {"host_ip": "https://Engine.Example."}).encode()
    assert (await ask(named_routes, "POST", "/register", body=body))[0] == 200
    (instance,) = registry.all()
    assert (instance.url, instance.key) == ("https://engine.example:8000", "engine.example:8000")


@pytest.mark.parametrize(
    ("host", "status", "message"),
    [
        ("nowhere", 400, "invalid InstanceInfo format: invalid host_ip: nowhere"),
        ("elsewhere", 403, "elsewhere is at 192.0.2.1, which is in none of access.register-networks"),
        ("192.0.2.9", 403, "192.0.2.9 is in none of access.register-networks"),
    ],
)
async def test_a_name_that_leads_nowhere_or_where_none_may_be(named_routes, ask, check, host, status, message) -> None:
    answer = await ask(named_routes, "POST", "/register", body=json.dumps(MIXED | {"host_ip": host}).encode())
    assert answer == (status, {"code": status, "msg": message})
    assert check.asked == []
