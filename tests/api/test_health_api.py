from __future__ import annotations

from fd_router.api.health import HealthApi
from fd_router.instances.instance import Instance
from fd_router.instances.prober import Outcome


async def no_probes() -> list[tuple[Instance, Outcome]]:
    return []


async def test_the_routers_own_health_asks_nobody(ask, log) -> None:
    async def fail() -> list[tuple[Instance, Outcome]]:
        raise AssertionError

    assert await ask(HealthApi(fail, lambda: False, log=log).routes(), "GET", "/health") == (200, {"status": "healthy"})


async def test_a_draining_router_says_so(ask, log) -> None:
    routes = HealthApi(no_probes, lambda: True, log=log).routes()
    assert await ask(routes, "GET", "/health") == (503, {"status": "draining"})


async def test_health_generate_without_instances(ask, log) -> None:
    answer = await ask(HealthApi(no_probes, lambda: False, log=log).routes(), "GET", "/health_generate")
    assert answer == (200, {"code": 200, "msg": "Health check complete", "instances": []})


async def test_health_generate_tells_of_each_instance(ask, log, registry, describe) -> None:
    well, dead = registry.register(describe(1, "prefill")), registry.register(describe(2, "decode"))

    async def probe_all() -> list[tuple[Instance, Outcome]]:
        registry.probe_failed(dead, "connection refused")
        return [(well, Outcome(True, "status 200", 0.0012345678)), (dead, Outcome(False, "connection refused", 0.5))]

    status, body = await ask(HealthApi(probe_all, lambda: False, log=log).routes(), "GET", "/health_generate")
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
