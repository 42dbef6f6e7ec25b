from __future__ import annotations

from fd_router.api.health import HealthApi
from fd_router.instances.instance import Instance
from fd_router.instances.prober import Outcome


def health_api(probe_all, log, *, registry=None, roles=("mixed",), is_draining=False) -> HealthApi:
    groups = registry.groups if registry is not None else tuple
    return HealthApi(probe_all, groups, roles, lambda: is_draining, log=log)


async def no_probes() -> list[tuple[Instance, Outcome]]:
    return []


async def test_the_routers_own_health_asks_nobody(ask, log) -> None:
    async def fail() -> list[tuple[Instance, Outcome]]:
        raise AssertionError

    assert await ask(health_api(fail, log).routes(), "GET", "/health") == (200, {"status": "healthy"})


async def test_a_draining_router_says_so(ask, log) -> None:
    routes = health_api(no_probes, log, is_draining=True).routes()
    assert await ask(routes, "GET", "/health") == (503, {"status": "draining"})


async def test_health_generate_without_instances(ask, log) -> None:
    answer = await ask(health_api(no_probes, log).routes(), "GET", "/health_generate")
    assert answer == (200, {"code": 200, "msg": "Health check complete", "instances": []})


async def test_health_generate_tells_of_each_instance(ask, log, registry, describe) -> None:
    well, dead = registry.register(describe(1, "prefill")), registry.register(describe(2, "decode"))

    async def probe_all() -> list[tuple[Instance, Outcome]]:
        registry.probe_failed(dead, "connection refused")
        return [(well, Outcome(True, "status 200", 0.0012345678)), (dead, Outcome(False, "connection refused", 0.5))]

    status, body = await ask(health_api(probe_all, log).routes(), "GET", "/health_generate")
    assert status == 200
    assert body == {
        "code": 200,
        "msg": "Health check complete",
        "instances": [
            {
                "url": "http://10.0.0.1:1",
                "role": "prefill",
                "healthy": True,
                "state": "healthy",
                "detail": "status 200",
                "seconds": 0.001235,
            },
            {
                "url": "http://10.0.0.1:2",
                "role": "decode",
                "healthy": False,
                "state": "unhealthy",
                "detail": "connection refused",
                "seconds": 0.5,
            },
        ],
    }
    assert log.lines == [
        ("info", "Server http://10.0.0.1:1 is healthy"),
        ("warn", "Server http://10.0.0.1:2 is not healthy (connection refused)"),
    ]


PAIRS = ("prefill", "decode")


async def ready(ask, log, registry, roles=("mixed",), **more):
    status, body = await ask(
        health_api(no_probes, log, registry=registry, roles=roles, **more).routes(), "GET", "/ready"
    )
    assert body["status"] == ("ready" if status == 200 else "not ready")
    return status, body.get("reason")


async def test_it_is_alive_whatever_else_it_is(ask, log) -> None:
    for is_draining in (False, True):
        routes = health_api(no_probes, log, is_draining=is_draining).routes()
        assert await ask(routes, "GET", "/live") == (200, {"status": "alive"})


async def test_it_is_ready_when_an_instance_takes_requests(ask, log, registry, describe) -> None:
    registry.group("mixed")
    assert await ready(ask, log, registry) == (503, "no mixed instance takes requests")
    instance = registry.register(describe(1))
    registry.probe_succeeded(instance)
    assert await ready(ask, log, registry) == (200, None)
    assert await ready(ask, log, registry, is_draining=True) == (503, "draining")
    registry.set_draining(instance.key, True)
    assert await ready(ask, log, registry) == (503, "no mixed instance takes requests")


async def test_pairs_need_both_roles(ask, log, registry, describe) -> None:
    assert await ready(ask, log, registry, PAIRS) == (503, "no prefill and no decode instance takes requests")
    registry.probe_succeeded(registry.register(describe(1, "prefill")))
    assert await ready(ask, log, registry, PAIRS) == (503, "no decode instance takes requests")
    registry.probe_succeeded(registry.register(describe(2, "decode")))
    assert await ready(ask, log, registry, PAIRS) == (200, None)


async def test_pairs_need_two_that_fit(ask, log, registry, describe) -> None:
    registry.probe_succeeded(registry.register(describe(1, "prefill", tp_size=2)))
    registry.probe_succeeded(registry.register(describe(2, "decode", tp_size=4)))
    assert (await ready(ask, log, registry, PAIRS))[0] == 503
    registry.probe_succeeded(registry.register(describe(3, "decode", tp_size=2)))
    assert await ready(ask, log, registry, PAIRS) == (200, None)
