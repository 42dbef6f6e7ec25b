from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fd_router import __version__
from fd_router.api.version import version_routes
from fd_router.engines.vllm import VllmDialect
from fd_router.instances.instance import Health, Instance
from fd_router.instances.registration import Registration


async def test_the_routers_version_and_the_engines_in_service(describe: Callable[..., Registration], ask: Any) -> None:
    instances = [Instance(describe(1), VllmDialect()), Instance(describe(2))]
    instances[0].health = Health.HEALTHY
    status, answer = await ask(version_routes(lambda: instances), "GET", "/version")
    assert (status, answer) == (200, {"version": __version__, "name": "fd-router", "engines": ["vllm"]})
